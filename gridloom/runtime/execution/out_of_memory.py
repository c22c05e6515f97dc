"""Error of a stage that ran out of memory: names the settings to lower, and fitting values by the cost estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.machine.device import device_memory
from gridloom.specs.stages import EvaluateStage, TrainStage

USABLE = 0.9
"""Share of a device's memory that is available to a stage."""


@contextmanager
def memory_advice(node: StageNode, device: str) -> Iterator[None]:
    """Convert out-of-memory errors to a StageError that names the settings to lower and the estimate."""
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        raise out_of_memory(node, device_memory(device)) from error


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error reports exhausted memory of a device or of this machine; imports no torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return (
        isinstance(error, MemoryError)
        or "OutOfMemoryError" in names
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def out_of_memory(node: StageNode, memory: int) -> StageError:
    """Return the error with a remedy. The estimate's fixed part (weights, optimiser state) is small compared to rows
    that do not fit, so the whole estimate is assumed to be proportional to the rows.

    Args:
        memory: total memory of the device in bytes.
    """
    peak = node.cost.peak_bytes if node.cost else 0
    wanted = f" (estimate: {_gigabytes(peak)} at the peak, of {_gigabytes(memory)})" if peak else ""
    settings, remedy = _ADVICE.get(node.kind, _any)(node.spec, peak / (USABLE * memory))
    return StageError(f"out of memory{' with ' if settings else ''}{settings}{wanted}", remedy)


def _train(values: Mapping[str, Any], excess: float) -> tuple[str, str]:
    """Return settings and remedy: the next `accumulate` that divides the batch and fits the device by the estimate."""
    spec = TrainStage.model_validate_json(json.dumps(values))
    parts = [n for n in range(spec.accumulate + 1, spec.batch_size + 1) if spec.batch_size % n == 0]
    fitting = [n for n in parts if excess * spec.accumulate / n <= 1] or parts[-1:]
    advice = "lower batch_size, the canvas, or hidden_size"
    if fitting:
        rows = spec.batch_size // fitting[0]
        advice = f"set accumulate: {fitting[0]} ({_rows(rows)} at once), or {advice}"
    return f"batch_size {spec.batch_size}, accumulate {spec.accumulate}", advice


def _evaluate(values: Mapping[str, Any], excess: float) -> tuple[str, str]:
    """Return settings and remedy: the batch halved until it fits the device by the estimate."""
    rows = size = EvaluateStage.model_validate_json(json.dumps(values)).batch_size
    while rows > 1 and (rows == size or excess * rows / size > 1):
        rows //= 2
    smaller = f"set batch_size: {rows}" if rows < size else "lower data.canvas, or train a smaller network"
    return f"batch_size {size}", smaller


def _joint(values: Mapping[str, Any], _: float) -> tuple[str, str]:
    size, attempts = values["batch_size"], values["attempts"]
    return f"batch_size {size}, attempts {attempts}", (
        "lower batch_size or attempts, shorten prompts, or load the language model with  quantize: nf4"
    )


def _solve(values: Mapping[str, Any], _: float) -> tuple[str, str]:
    solver = values["solver"]
    return f"in_flight {solver['in_flight']}, views {solver['views']}", (
        "lower solver.in_flight, which changes results by rounding at most, or solver.views"
    )


def _any(_: Mapping[str, Any], __: float) -> tuple[str, str]:
    return "", "free some memory, or run it on a larger device"


_ADVICE: dict[str, Callable[[Mapping[str, Any], float], tuple[str, str]]] = {
    "train": _train,
    "evaluate": _evaluate,
    "vote": _evaluate,
    "joint_train": _joint,
    "solve": _solve,
}


def _rows(number: int) -> str:
    return f"{number} row{'s' if number > 1 else ''}"


def _gigabytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
