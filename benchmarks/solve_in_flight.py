"""Tasks per minute of the solver loop at several numbers of tasks in flight, with a real LLaMA and an untrained TRM.

    python benchmarks/solve_in_flight.py [--tasks 16] [--in-flight 1 4 16] [--attempts 2] [--new-tokens 24] [--alone]
                                         [--rounds 1]

With `--alone` the LLaMA writes the grids without a TRM. Prints one line a number: tasks/min and the ratio to the first
of its round, by the clock and by the CPU seconds of the process, and where its models' time went. A machine whose speed
drifts wants several rounds: numbers follow each other in every one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from processor import conditions

from gridloom.compiler.graph import StageNode
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, save_bundle
from gridloom.runtime.data.arc.dataset import Dataset, save_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.views import view_table
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.llama import Llama
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.stage import StageContext
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.parts.services import Services
from gridloom.solvers.stages.solve import Solve
from gridloom.specs.data import ArcData, ArcSelect, Augment
from gridloom.specs.solver import Reason, Solver
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.workspace import Workspace


class Quiet:
    """Shows nothing."""

    @contextmanager
    def task(self, *_args: Any, **_options: Any) -> Any:
        yield self

    def advance(self, *_args: Any, **_fields: Any) -> None:
        """Ignore."""

    say = show = advance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=16)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--attempts", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--max-side", type=int, default=10)
    parser.add_argument("--alone", action="store_true", help="the LLaMA without a TRM")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(conditions())
    spec = ArcData(
        subsets=("training",),
        holdout=("training",),
        check_demos=1,
        canvas="auto",
        select=ArcSelect(max_side=options.max_side, limit=options.tasks),
        augment=Augment(copies=31),
    )
    source = read_arc(spec, Path())
    data = Dataset(source.tasks, source.canvas, source.digest, spec.augment, source.version)
    root = Path(tempfile.mkdtemp())
    save_dataset(_made(root / "data"), data)
    llama = {"kind": "llama", "weights": LlamaModel().weights}
    if not options.alone:
        save_bundle(root / "bundle", _bundle(data))
    first = 0.0, 0.0
    for turn in range(options.rounds * len(options.in_flight)):
        number = options.in_flight[turn % len(options.in_flight)]
        settings = Solver(
            max_attempts=options.attempts, in_flight=number, reason=Reason(max_new_tokens=options.new_tokens)
        )
        services = (  # anew: a number must not profit from the prompts that the one before has read
            load_llm_services(llama, settings, options.device, Path())
            if options.alone
            else load_services(root / "bundle", settings, options.device, Path())
        )
        workspace = Workspace(root / f"home-{turn}")
        node = StageNode(
            name="solve",
            kind="solve",
            version=1,
            produces="attempts",
            key="gl1:x",
            models={"llama": llama} if options.alone else {},
            facts={"llama": {"llama": {"digest": "benchmark"}}},
            spec={
                "kind": "solve",
                "with": "llama" if options.alone else "joint",
                "data": "arc1",
                "solver": settings.model_dump(mode="json"),
            },
        )
        inputs = {"data": Artifact("gl1:d", "dataset", root / "data", {})}
        if not options.alone:
            inputs["with"] = Artifact("gl1:b", "checkpoint", root / "bundle", {})
        with LedgerWriter(workspace, "run") as writer:
            context = StageContext(
                run_id="run",
                device=options.device,
                work=_made(root / f"work-{turn}"),
                out=_made(root / f"out-{turn}"),
                base=Path(),
                ledger=writer,
                progress=Quiet(),
                stop=_Never(),
            )
            began, used = time.perf_counter(), time.process_time()
            given = partial(_given, services)
            Solve(given, given).run(node, inputs, context)
            spent = time.perf_counter() - began, time.process_time() - used
        if turn % len(options.in_flight) == 0:
            first = spent
        print(
            f"in flight {number:3}: {60 * options.tasks / spent[0]:6.1f} tasks/min ({first[0] / spent[0]:.2f}x), "
            f"{spent[1] / options.tasks:.2f} CPU s a task ({first[1] / spent[1]:.2f}x); {figures(services)}",
            flush=True,
        )


def figures(services: Services) -> str:
    """Return calls, batches and seconds of the models."""
    queues = {"LLaMA": services.llm_queue, "TRM": services.trm_queue}
    return ", ".join(
        f"{name} {queue.num_calls} calls in {queue.num_batches} batches, {queue.seconds:.1f} s"
        for name, queue in queues.items()
        if queue is not None
    )


def _given(services: Services, *_: Any) -> Services:
    return services


class _Never:
    reason = ""

    def __bool__(self) -> bool:
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _bundle(data: Dataset) -> Bundle:
    torch.manual_seed(0)
    ids = PuzzleIds(view_table(data.tasks, 0, data.augment.copies, data.augment).names)
    spec = TrmModel(
        hidden_size=128,
        num_heads=4,
        layers=2,
        H_cycles=2,
        L_cycles=3,
        halt_max_steps=6,
        puzzle_embedding_len=2,
        precision="fp32",
    )
    trm = TRM(spec, data.canvas, len(ids), task_of=ids.task_of)
    llm = LlamaModel()
    width = Llama.load(llm).hidden_size
    return Bundle(
        {
            NETWORK: trm.eval(),
            "text_to_latent": TextToLatent.build(TextToLatentModel(llm="llama", trm="trm", bottleneck=256), width, trm),
            "latent_to_text": LatentToText.build(LatentToTextModel(llm="llama", trm="trm", tokens=2), width, trm),
        },
        puzzle_ids=ids,
        llm_spec=llm,
    )


if __name__ == "__main__":
    main()
