"""Error of a stage that ran out of memory: names the settings to lower, and fitting values by the cost estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.machine.device import device_memory
from gridloom.specs.stages import TrainStage

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
    settings, remedy = _ADVICE.get(node.kind, _any)(node, peak / (USABLE * memory))
    return StageError(f"out of memory{' with ' if settings else ''}{settings}{wanted}", remedy)


def _train(node: StageNode, excess: float) -> tuple[str, str]:
    """Return settings and remedy: the next `accumulate` that divides the batch and fits the device by the estimate."""
    spec = node.section(TrainStage)
    parts = [n for n in range(spec.accumulate + 1, spec.batch_size + 1) if spec.batch_size % n == 0]
    fitting = [n for n in parts if excess * spec.accumulate / n <= 1] or parts[-1:]
    advice = "lower batch_size, the canvas, or hidden_size"
    if fitting:
        rows = spec.batch_size // fitting[0]
        advice = f"set accumulate: {fitting[0]} ({_rows(rows)} at once), or {advice}"
    return f"batch_size {spec.batch_size}, accumulate {spec.accumulate}", advice


def _evaluate(node: StageNode, excess: float) -> tuple[str, str]:
    """Return settings and remedy: the batch halved until it fits the device by the estimate."""
    rows = size = int(node.spec["batch_size"])
    while rows > 1 and (rows == size or excess * rows / size > 1):
        rows //= 2
    smaller = f"set batch_size: {rows}" if rows < size else "lower data.canvas, or train a smaller network"
    return f"batch_size {size}", smaller


def _joint(node: StageNode, _: float) -> tuple[str, str]:
    size, attempts = node.spec["batch_size"], node.spec["attempts"]
    return f"batch_size {size}, attempts {attempts}", (
        "lower batch_size or attempts, shorten prompts, or load the language model with  quantize: nf4"
    )


def _solve(node: StageNode, _: float) -> tuple[str, str]:
    solver = node.spec["solver"]
    return f"in_flight {solver['in_flight']}, views {solver['views']}", (
        "lower solver.in_flight, which changes results by rounding at most, or solver.views"
    )


def _any(_: StageNode, __: float) -> tuple[str, str]:
    return "", "free some memory, or run it on a larger device"


_ADVICE: dict[str, Callable[[StageNode, float], tuple[str, str]]] = {
    "train": _train,
    "evaluate": _evaluate,
    "halting_study": _evaluate,
    "vote": _evaluate,
    "joint_train": _joint,
    "solve": _solve,
}


def _rows(number: int) -> str:
    return f"{number} row{'s' if number > 1 else ''}"


def _gigabytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
