"""Sampler of packed rows: the rows of `Sampler`, each with the shape that its task's visible pairs suggest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.packing.row_shapes import task_shapes, turned
from gridloom.runtime.data.arc.sampler import CanvasSampler, Sampler
from gridloom.runtime.data.batch import TrainBatch


class PackedSampler(Sampler):
    """Infinite, random-access stream of training rows with their shapes. Row n depends on (seed, n) alone."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        """Draw the views and infer the shapes. Raises DataError for a task without training pairs, and for views that
        translate, since a packed row has no room."""
        if dataset.augment.translate:
            raise DataError("packed rows have no room for grids to move", "set augment.translate: false")
        super().__init__(dataset, seed)
        self.shapes = task_shapes(dataset.tasks, dataset.canvas)
        """int64 [pairs, 2], rows and columns of each training pair's row under the identity."""

    def between(self, first: int, end: int) -> TrainBatch:
        """Return the rows first ... end - 1 of the stream."""
        return self.rows(np.arange(first, end, dtype=np.int64))

    def rows(self, numbers: NDArray[np.int64]) -> TrainBatch:
        """Return the rows of these numbers, in this order, with their shapes."""
        batch = super().rows(numbers)
        plain = self.shapes[self._pairs.pair_start[batch.task_index] + batch.pair_index]
        return replace(batch, shapes=turned(plain, self.views.dihedral[batch.puzzle_ids - 1]))


def sampler_of(dataset: Dataset, seed: int) -> Sampler | CanvasSampler:
    """Return the sampler of a dataset: of packed rows, of several canvases, or of one."""
    if dataset.packed:
        return PackedSampler(dataset, seed)
    return CanvasSampler(dataset, seed) if dataset.canvases else Sampler(dataset, seed)
