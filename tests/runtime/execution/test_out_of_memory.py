"""Messages and remedies of stages that run out of memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gridloom.compiler.graph import Cost, StageNode
from gridloom.errors import StageError
from gridloom.runtime.execution.out_of_memory import memory_advice, out_of_memory, ran_out_of_memory
from gridloom.specs.stages import EvaluateStage, JointTrainStage, SolveStage, TrainStage

SPECS = {
    "train": TrainStage(model="trm", data="arc", batch_size=8),
    "vote": EvaluateStage.model_validate({"with": "trm", "data": "arc", "batch_size": 768}),
    "joint_train": JointTrainStage(llm="llama", trm="trm", adapters=("bridge",), data="arc", batch_size=6),
    "solve": SolveStage.model_validate({"with": "trm", "data": "arc", "solver": {"in_flight": 16, "views": 32}}),
}
SPECS["evaluate"] = SPECS["vote"]


def node(kind: str, peak_gib: float | None = None, **changes: Any) -> StageNode:
    cost = (
        None
        if peak_gib is None
        else Cost(parameters=1, flops={}, num_steps=1, step="step", peak_bytes=int(peak_gib * 2**30))
    )
    spec = SPECS[kind].model_copy(update=changes).model_dump(mode="json", by_alias=True) if kind in SPECS else {}
    return StageNode(name="a", kind=kind, version=1, produces="checkpoint", spec=spec, cost=cost)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA"), MemoryError(), RuntimeError("[enforce fail] can't allocate memory: 8 bytes")],
)
def test_running_out_of_memory_says_what_to_lower_and_the_estimate(error: Exception) -> None:
    with (
        pytest.raises(StageError, match=r"batch_size 8, accumulate 1 \(estimate: 3.00 GiB.*\n.*set accumulate: 2 "),
        memory_advice(node("train", 3), "cpu"),
    ):
        raise error
    assert ran_out_of_memory(error)


def test_another_error_stays_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), memory_advice(node("train"), "cpu"):
        raise RuntimeError("shapes differ")


@pytest.mark.parametrize(
    ("batch", "accumulate", "peak_gib", "wanted"),
    [
        (768, 1, 20, "set accumulate: 3 (256 rows at once), or"),
        (6, 2, 1, "set accumulate: 3 (2 rows at once), or"),
        (6, 2, None, "set accumulate: 3 (2 rows at once), or"),
        (6, 3, 1000, "set accumulate: 6 (1 row at once), or"),
        (6, 6, 1000, "lower batch_size, the canvas, or hidden_size"),
    ],
)
def test_the_parts_it_advises_divide_the_batch_and_fit_by_estimate(
    batch: int, accumulate: int, peak_gib: int | None, wanted: str
) -> None:
    error = out_of_memory(node("train", peak_gib, batch_size=batch, accumulate=accumulate), 8 << 30)
    assert error.remedy is not None
    assert error.remedy.startswith(wanted)
    assert ("of 8.00 GiB" in str(error)) == (peak_gib is not None)


@pytest.mark.parametrize("kind", ["vote", "evaluate"])
@pytest.mark.parametrize(
    ("batch", "peak_gib", "wanted"),
    [
        (768, 20, "set batch_size: 192"),
        (768, 8, "set batch_size: 384"),
        (768, None, "set batch_size: 384"),
        (2, 1000, "set batch_size: 1"),
        (1, 1000, "lower data.canvas"),
    ],
)
def test_an_evaluation_is_told_how_many_rows_fit(kind: str, batch: int, peak_gib: int | None, wanted: str) -> None:
    error = out_of_memory(node(kind, peak_gib, batch_size=batch), 8 << 30)
    assert str(error).startswith(f"out of memory with batch_size {batch}")
    assert error.remedy is not None
    assert error.remedy.startswith(wanted)


@pytest.mark.parametrize(
    ("kind", "message", "remedy"),
    [
        ("joint_train", "out of memory with batch_size 6, attempts 2", "lower batch_size or attempts"),
        ("solve", "out of memory with in_flight 16, views 32", "lower solver.in_flight"),
        ("count_votes", "out of memory", "free some memory"),
    ],
)
def test_other_stages_are_told_what_to_lower(kind: str, message: str, remedy: str) -> None:
    error = out_of_memory(node(kind), 8 << 30)
    assert error.message == message
    assert error.remedy is not None
    assert error.remedy.startswith(remedy)
