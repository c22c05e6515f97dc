"""What a training that ran out of memory is told: how many rows at once the device holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gridloom.compiler.graph import Cost
from gridloom.errors import StageError
from gridloom.runtime.device import device_memory
from gridloom.specs.stages import TrainStage

USABLE = 0.9
"""Share of a device's memory that a training may plan with."""


@contextmanager
def memory_advice(spec: TrainStage, cost: Cost | None, device: str) -> Iterator[None]:
    """Turn running out of memory into a StageError that says what to lower, and what was estimated."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise too_big(spec, cost, device_memory(device)) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise too_big(spec, cost, device_memory(device)) from error


def too_big(spec: TrainStage, cost: Cost | None, memory: int) -> StageError:
    """Say which `accumulate` fits: the next that divides the batch and whose share of the estimate the device holds.

    The estimate's fixed part (weights, optimiser) is small beside the rows of a batch that does not fit, so all of it
    is taken to shrink with the rows.

    Args:
        memory: bytes of the device.
    """
    peak = cost.peak_bytes if cost else 0
    wanted = f" (estimate: {_gigabytes(peak)} at the peak, of {_gigabytes(memory)})" if peak else ""
    parts = [n for n in range(spec.accumulate + 1, spec.batch_size + 1) if spec.batch_size % n == 0]
    fitting = [n for n in parts if peak * spec.accumulate / n <= USABLE * memory] or parts[-1:]
    advice = "lower batch_size, the canvas, or hidden_size"
    if fitting:
        rows = spec.batch_size // fitting[0]
        advice = (f"set accumulate: {fitting[0]} ({rows} row{'s' if rows > 1 else ''} at once), or lower batch_size, "
                  "the canvas, or hidden_size")
    return StageError(f"out of memory with batch_size {spec.batch_size}, accumulate {spec.accumulate}{wanted}", advice)


def _gigabytes(number: int) -> str:
    return f"{number / 2**30:.2f} GiB"
