"""A real vote stage in miniature: a TRM that learnt three tasks by heart. Also run as a script, to be killed.

python vote_support.py ROOT RUN BATCHES   # hangs when the stage is about to run the batch after so many
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from progress_support import Reporter
from solve_support import Stop

from gridloom.compiler.graph import StageNode
from gridloom.runtime.checkpoints.bundle import Bundle, load_bundle, save_bundle
from gridloom.runtime.data.arc.answers import save_answers
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.tokens import crop
from gridloom.runtime.data.tasks import Grid, Pair, Task, tasks_digest
from gridloom.runtime.evaluation.count_votes import CountVotes
from gridloom.runtime.evaluation.vote import Vote
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.train import Train
from gridloom.specs.data import Augment
from gridloom.specs.stages import AdamAtan2, EvaluateStage, TrainStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.workspace import Workspace

CANVAS = 3
MODEL = TrmModel(
    hidden_size=32,
    num_heads=2,
    layers=1,
    H_cycles=2,
    L_cycles=1,
    expansion=1.0,
    puzzle_embedding_len=1,
    halt_max_steps=2,
    precision="fp32",
)
STAGE = TrainStage(
    model="trm",
    data="arc1",
    steps=160,
    batch_size=16,
    optimizer=AdamAtan2(lr=5e-3),
    warmup_steps=10,
    ema=0.9,
    checkpoint_every=1000,
    log_every=1000,
)


def demonstrations_as_tests() -> Dataset:
    """Mirror tasks whose held-out test inputs are demonstrations: a network that learnt them by heart is right."""

    def task(task_id: str, num_tests: int, *colours: tuple[int, int]) -> Task:
        inputs = [np.array([pair], dtype=np.uint8) for pair in colours]
        demos = tuple(Pair(grid, np.ascontiguousarray(grid[:, ::-1])) for grid in inputs)
        return Task(task_id, "evaluation", demos, tuple(inputs[:num_tests]))

    tasks = (task("aaaa0001", 1, (1, 2), (3, 4)), task("bbbb0002", 2, (5, 1), (2, 6)), task("cccc0003", 1, (7, 8)))
    return Dataset(tasks, CANVAS, tasks_digest(tasks), Augment(copies=7), "mirror 1")


class VotePlace:
    """A trained checkpoint, its dataset, and the two stages that evaluate it."""

    def __init__(self, root: Path, spoil: bool = False) -> None:
        """Args: spoil: the weights hold a NaN."""
        torch.set_num_threads(1)
        self.root = root
        self.crew: Any = None
        """Workers that share the batches of a vote."""
        self.said: dict[str, list[str]] = {}
        """What a run said, by run."""
        root.mkdir(parents=True, exist_ok=True)
        self.workspace = Workspace(root / "home")
        self.dataset = demonstrations_as_tests()
        self.data = Artifact("gl1:data", "dataset", root / "data", {})
        self.checkpoint = Artifact("gl1:pretrain", "checkpoint", root / "pretrain", {})
        if not self.data.path.exists():
            self.data.path.mkdir()
            save_dataset(self.data.path, self.dataset)
            self._train(spoil)

    def train(self, made: Artifact, model: TrmModel = MODEL, seed: int = 3, **stage: Any) -> None:
        """Fill the artifact of a train stage of the name that its key ends with."""
        node = StageNode(
            name=made.path.name,
            kind="train",
            version=1,
            produces="checkpoint",
            inputs={"data": "arc1"},
            seed=seed,
            key=made.key,
            models={"trm": model.model_dump(mode="json")},
            spec=STAGE.model_copy(update=stage).model_dump(mode="json"),
        )
        made.path.mkdir()
        run = f"train-{made.path.name}"
        with LedgerWriter(self.workspace, run) as writer:
            Train().run(node, {"data": self.data}, self._context(writer, made.path, run, Stop()))

    def another(self, name: str, model: TrmModel, seed: int, steps: int) -> Artifact:
        """One more checkpoint on the same tasks."""
        made = Artifact(f"gl1:{name}", "checkpoint", self.root / name, {})
        self.train(made, model, seed, steps=steps)
        return made

    def _train(self, spoil: bool) -> None:
        stage: dict[str, Any] = {"steps": 1} if spoil else {}
        self.train(self.checkpoint, **stage)
        if spoil:
            bundle = load_bundle(self.checkpoint.path)
            with torch.no_grad():
                network = bundle.network
                assert isinstance(network, RecursiveNetwork)
                network.q_head.weight.fill_(float("nan"))
            save_bundle(self.checkpoint.path, bundle)

    def _context(self, writer: LedgerWriter, out: Path, run: str, stop: Any) -> StageContext:
        work = self.root / f"work-{run}"
        work.mkdir(exist_ok=True)
        progress = Reporter()
        self.said[run] = progress.lines
        return StageContext(
            run_id=run,
            device="cpu",
            work=work,
            out=out,
            base=self.root,
            ledger=writer,
            progress=progress,
            stop=stop,
            crew=self.crew,
        )

    def vote(self, run: str, stop: Any = None, members: Sequence[Artifact] = (), **fields: Any) -> Path:
        """Run the vote stage; its artifact's folder. A run that has ended already is not run again.

        Args:
            members: checkpoints that vote, in place of the place's own.
        """
        out = self.root / f"votes-{run}"
        if (out / "votes.json").exists():
            return out
        out.mkdir(exist_ok=True)
        first, *others = members or (self.checkpoint,)
        fields |= {"ensemble": tuple(member.path.name for member in others)} if others else {}
        spec = EvaluateStage.model_validate({"with": first.path.name, "data": "arc1", "batch_size": 16, **fields})
        more = {f"ensemble.{i}": member for i, member in enumerate(others)}
        node = StageNode(
            name="judge.votes",
            kind="vote",
            version=1,
            produces="votes",
            key=f"gl1:{run}",
            spec=spec.model_dump(mode="json", by_alias=True),
        )
        with LedgerWriter(self.workspace, run) as writer:
            context = self._context(writer, out, run, Stop() if stop is None else stop)
            Vote().run(node, {"with": first, **more, "data": self.data}, context)
        return out

    def answers(self, noise: int | None = None) -> dict[str, tuple[Grid, ...]]:
        """The held-out outputs; with a seed for noise, random grids in their place."""
        random = np.random.default_rng(noise)
        return {
            task.task_id: tuple(
                np.ascontiguousarray(test[:, ::-1])
                if noise is None
                else random.integers(0, 10, (4, 4)).astype(np.uint8)
                for test in task.tests
            )
            for task in self.dataset.tasks
        }

    def count(self, run: str, votes: Path, answers: dict[str, tuple[Grid, ...]] | None = None) -> dict[str, Any]:
        """Run the counting stage; its report."""
        folders = {name: self.root / f"{name}-{run}" for name in ("answers", "report")}
        for folder in folders.values():
            folder.mkdir(exist_ok=True)
        save_answers(folders["answers"], self.answers() if answers is None else answers)
        inputs = {
            "votes": Artifact("gl1:votes", "votes", votes, {}),
            "answers": Artifact("gl1:answers", "answers", folders["answers"], {}),
        }
        node = StageNode(
            name="judge",
            kind="count_votes",
            version=1,
            produces="evaluation",
            spec={"with": "pretrain", "data": "arc1"},
            inputs={"votes": "judge.votes", "answers": "arc1.answers"},
        )
        with LedgerWriter(self.workspace, run) as writer:
            CountVotes().run(node, inputs, self._context(writer, folders["report"], run, Stop()))
        report: dict[str, Any] = json.loads((folders["report"] / "report.json").read_text())
        return report

    def answer(self, bundle: Bundle, tokens: Any, name: str) -> tuple[Grid | None, float]:
        """Run one row by itself: its crop, and its halting probability."""
        traced = bundle.network.trace(
            Rows(torch.from_numpy(tokens[None]), torch.tensor([bundle.puzzle_ids.index[name]]))
        )
        return crop(traced.tokens[0].numpy(), CANVAS), float(torch.sigmoid(traced.q_halt[-1].double())[0])

    @property
    def ledger(self) -> Ledger:
        """The workspace's ledger."""
        return Ledger(self.workspace)


class Hang(Stop):
    """Never stops the stage, but hangs when it is looked at after so many batches."""

    def __bool__(self) -> bool:
        self.looks += 1
        if self.after is not None and self.looks > self.after:
            print("hangs", flush=True)
            time.sleep(600)
        return False


if __name__ == "__main__":
    VotePlace(Path(sys.argv[1])).vote(sys.argv[2], stop=Hang(after=int(sys.argv[3])), batch_size=5)
