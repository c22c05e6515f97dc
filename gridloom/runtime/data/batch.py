"""Batches of training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class TrainBatch:
    """Batch of B training rows, L = canvas * canvas tokens each."""

    inputs: NDArray[np.uint8]
    """uint8 [B, L]"""
    labels: NDArray[np.uint8]
    """uint8 [B, L]; PAD 0 is not scored, EOS 1 is."""
    puzzle_ids: NDArray[np.int32]
    """int32 [B]; `Sampler.views.names[id]` is the name, 0 is never used."""
    task_index: NDArray[np.int32]
    """int32 [B], indices into `Dataset.tasks`."""
    view_index: NDArray[np.int32]
    """int32 [B], indices into the task's views; 0 is the identity."""
    pair_index: NDArray[np.int32]
    """int32 [B], indices into `Task.train_pairs`."""
    offsets: NDArray[np.int32]
    """int32 [B, 2], row and column offset on the canvas."""
    valid: None = None
    """Every token is valid."""
    shapes: NDArray[np.int64] | None = None
    """int64 [B, 2], rectangle of each row at the corner of its canvas, where rows are packed."""


class Batch(Protocol):
    """Fields that a training step reads from any batch."""

    @property
    def inputs(self) -> NDArray[Any]:
        """uint8 [B, L] tokens, or float32 [B, T, F] vectors."""

    @property
    def labels(self) -> NDArray[np.uint8]:
        """uint8 [B, L] tokens, [B, T * K] or [B, K] classes + 1; 0 where nothing is scored."""

    @property
    def puzzle_ids(self) -> NDArray[np.int32]:
        """int32 [B], rows of the puzzle embedding."""

    @property
    def valid(self) -> NDArray[np.int32] | None:
        """int32 [B], valid tokens or time steps of each row; None where all are valid."""
