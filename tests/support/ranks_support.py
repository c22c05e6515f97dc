"""A train stage in one of several processes, as torchrun starts it.   python ranks_support.py ROOT STOP_AFTER [SHARE]

SHARE holds tasks apart for validation. On the rank that POISONED names, the gradients of steps 2 and 5 have a NaN.
With LATE, that rank compiles two seconds after the others, and all print when they compiled and first reduced.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from packed_support import DATASET, PACKED
from train_support import MODEL, STAGE, StopAfter, dataset_artifact, known_dataset, stage_context, train_node

from gridloom.errors import StageInterrupted
from gridloom.runtime.machine.ranks import Ranks
from gridloom.runtime.training.follow import follow, leading
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.train import Train
from gridloom.specs.validation import Validation


def poison() -> None:
    """Put a NaN into the gradient of the first weight in steps 2 and 5."""
    real = ActTrainer._part

    def poisoned(self: ActTrainer, *args: Any) -> Any:
        found = real(self, *args)
        gradient = next(self.model.parameters()).grad
        if self.num_steps in (2, 5) and gradient is not None:
            gradient.view(-1)[0] = float("nan")
        return found

    ActTrainer._part = poisoned  # type: ignore[assignment, method-assign]


def trace_compilation(late: bool) -> None:
    """Print when the step is compiled and when gradients are first summed; wait before the first where it is late."""
    compile_step, reduce = ActTrainer.compile, Ranks.all_reduce

    def compiled(self: ActTrainer, *args: Any) -> None:
        time.sleep(2.0 if late else 0.0)
        compile_step(self, *args)
        print("compiled", flush=True)

    def reduced(self: Ranks, *args: Any) -> None:
        print("reduced", flush=True)
        Ranks.all_reduce = reduce  # type: ignore[method-assign]
        reduce(self, *args)

    ActTrainer.compile, Ranks.all_reduce = compiled, reduced  # type: ignore[assignment, method-assign]


def main() -> None:
    """Run as the rank that RANK names."""
    torch.set_num_threads(1)
    if os.environ["RANK"] == os.environ.get("POISONED"):
        poison()
    if late := os.environ.get("LATE"):
        trace_compilation(os.environ["RANK"] == late)
    if os.environ["RANK"] != "0":
        follow(Ranks.of_environment())
        return
    context = stage_context(Path(sys.argv[1]), StopAfter(int(sys.argv[2])))
    stage, dataset = STAGE, None
    if len(sys.argv) > 3:
        wanted = Validation(every=5, share=float(sys.argv[3]), views=2, batch_size=2)
        stage, dataset = STAGE.model_copy(update={"validate_": wanted}), known_dataset()
    model = MODEL
    if budget := os.environ.get("PACKED"):  # rows of their own shape, within so many tokens a step
        stage, dataset, model = STAGE.model_copy(update={"batch_tokens": int(budget)}), DATASET, PACKED
    data = dataset_artifact(Path(sys.argv[1]), dataset)
    with leading(Ranks.of_environment()) as ranks:
        try:
            Train().run(train_node(stage, model), {"data": data}, replace(context, ranks=ranks))
        except StageInterrupted as interrupted:
            print(interrupted.message)
        context.ledger.close()
    if "torch._dynamo" in sys.modules:
        sys.exit("a training that compiles nothing has imported torch's compiler, which takes seconds")


if __name__ == "__main__":
    main()
