"""A real train stage in miniature: two small tasks, a tiny TRM, a real ledger. Also run as a script, to be killed.

python train_support.py ROOT STEPS [seconds to sleep after each saved state]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from progress_support import Bar, Reporter

from gridloom.compiler.graph import StageNode
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.tasks import Pair, Task, tasks_digest
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.train import Train
from gridloom.specs.data import Augment
from gridloom.specs.stages import AdamAtan2, TrainStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace

MODEL = TrmModel(
    hidden_size=32,
    num_heads=2,
    layers=1,
    H_cycles=2,
    L_cycles=1,
    expansion=1.0,
    puzzle_embedding_len=1,
    halt_max_steps=3,
    precision="fp32",
)
STAGE = TrainStage(
    model="trm",
    data="toy",
    steps=12,
    batch_size=8,
    optimizer=AdamAtan2(lr=1e-3),
    warmup_steps=4,
    ema=0.9,
    checkpoint_every=4,
    log_every=1,
)


def toy_dataset(copies: int = 3) -> Dataset:
    """Two tasks on 3x3 grids: copy, and flip left-right."""
    rng = np.random.default_rng(0)

    def pairs(flip: bool) -> tuple[Pair, ...]:
        grids = [rng.integers(0, 10, (3, 3)).astype(np.uint8) for _ in range(3)]
        return tuple(Pair(g, np.ascontiguousarray(g[:, ::-1]) if flip else g.copy()) for g in grids)

    tasks = (
        Task("copy", "tasks", pairs(False), (np.eye(3, dtype=np.uint8),)),
        Task("flip", "tasks", pairs(True), (np.eye(3, dtype=np.uint8),)),
    )
    return Dataset(tasks, 4, tasks_digest(tasks), Augment(copies=copies), "toy 1")


def known_dataset(num_tasks: int = 5) -> Dataset:
    """Tasks that copy or flip 3x3 grids: three demonstrations and a test pair with a known answer each."""
    rng = np.random.default_rng(1)

    def pairs(flip: bool, number: int) -> tuple[Pair, ...]:
        grids = [rng.integers(0, 10, (3, 3)).astype(np.uint8) for _ in range(number)]
        return tuple(Pair(g, np.ascontiguousarray(g[:, ::-1]) if flip else g.copy()) for g in grids)

    tasks = tuple(
        Task(f"t{i}", "training" if i < num_tasks - 1 else "other", pairs(i % 2 == 1, 3), (), pairs(i % 2 == 1, 1))
        for i in range(num_tasks)
    )
    return replace(toy_dataset(), tasks=tasks, digest=tasks_digest(tasks))


class StopAfter:
    """A stop signal that is set from its n-th reading on."""

    reason = "SIGTERM"

    def __init__(self, readings: int | None = None) -> None:
        self.left = readings

    def __bool__(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0


def stage_context(root: Path, stop: Any = None, run_id: str = "run") -> StageContext:
    """A context whose folders are under `root`."""
    for name in ("work", "out"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return StageContext(
        run_id=run_id,
        device="cpu",
        base=root,
        work=root / "work",
        out=root / "out",
        ledger=LedgerWriter(Workspace(root / "home"), run_id),
        progress=Reporter(),
        stop=StopAfter() if stop is None else stop,
    )


def dataset_artifact(root: Path, dataset: Dataset | None = None) -> Artifact:
    """The toy dataset as an artifact folder."""
    folder = root / "data"
    folder.mkdir(parents=True, exist_ok=True)
    save_dataset(folder, toy_dataset() if dataset is None else dataset)
    return Artifact("gl1:data", "dataset", folder, {})


def train_node(stage: TrainStage = STAGE, model: TrmModel = MODEL, key: str = "gl1:train") -> StageNode:
    """The graph node of a train stage."""
    return StageNode(
        name="pretrain",
        kind="train",
        version=1,
        produces="checkpoint",
        inputs={"data": "toy"},
        seed=3,
        key=key,
        spec=stage.model_dump(mode="json"),
        models={"trm": model.model_dump(mode="json")},
    )


def main() -> None:
    """Train under ROOT, pausing after each saved state so that a test can kill this process between two."""
    root, steps = Path(sys.argv[1]), int(sys.argv[2])
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
    context = stage_context(root, run_id=sys.argv[4] if len(sys.argv) > 4 else "run")

    class Pausing(Reporter):
        @contextmanager
        def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[Bar]:
            class Slow(Bar):
                def advance(self, amount: float = 1, **fields: Any) -> None:
                    time.sleep(pause)
                    print("step", flush=True)

            yield Slow(done)

    slow = replace(context, progress=Pausing())
    stage = STAGE.model_copy(update={"steps": steps})
    Train().run(train_node(stage), {"data": dataset_artifact(root)}, slow)
    context.ledger.close()


if __name__ == "__main__":
    main()
