"""Rows of each joint training step: the sampler's stream, or with a curriculum its small grids first.

The rows of a step depend on seed and step alone, so a resumed run draws the same rows as an uninterrupted one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.batch import TrainBatch
from gridloom.specs.stages import Curriculum, JointTrainStage

LOOK_AHEAD = 8
"""Number of candidate rows per row that a step takes under a curriculum."""

PairKey = tuple[int, int]
"""Index of a task in the dataset, and of a pair in its `train_pairs`."""


class JointBatches:
    """Batches by step, counted from 0."""

    def __init__(self, sampler: Sampler, spec: JointTrainStage) -> None:
        self.sampler, self.spec = sampler, spec
        self._sides = [
            [max(*pair.input.shape, *pair.output.shape) for pair in task.train_pairs] for task in sampler.dataset.tasks
        ]

    def batch(self, step: int) -> TrainBatch:
        """Return the rows of a step."""
        size, curriculum = self.spec.batch_size, self.spec.curriculum
        if curriculum is None or step >= curriculum.steps:
            return self.sampler.batch(step, size)
        looked_at = np.arange(step * size * LOOK_AHEAD, (step + 1) * size * LOOK_AHEAD, dtype=np.int64)
        return self.sampler.rows(looked_at[self._smallest(looked_at, self.limit(curriculum, step))])

    def limit(self, curriculum: Curriculum, step: int) -> int:
        """Return the largest preferred grid side in cells at a step: linear from `first_side` to the canvas."""
        canvas = self.sampler.dataset.canvas
        first = min(curriculum.first_side, canvas)
        return first + (canvas - first) * step // curriculum.steps

    def _smallest(self, numbers: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
        """Return the indices of the rows to take: those within the limit in order, then the smallest of the others."""
        drawn = self.sampler.rows(numbers)
        sides = np.array([self._sides[task][pair] for task, pair in _keys(drawn)])
        rank = np.where(sides <= limit, 0, sides)
        return np.sort(np.argsort(rank, kind="stable")[: self.spec.batch_size])

    def pairs(self, done: int) -> list[PairKey]:
        """Return (task, pair) of every row of the steps from `done` on, in order of first use."""
        curriculum, size = self.spec.curriculum, self.spec.batch_size
        keys: dict[PairKey, None] = {}
        for step in range(done, min(self.spec.steps, curriculum.steps) if curriculum else done):
            keys.update(dict.fromkeys(_keys(self.batch(step))))
        first = max(done, curriculum.steps) if curriculum else done
        # two epochs of rows cover every pair
        num_rows = min((self.spec.steps - first) * size, 2 * self.sampler.epoch_rows)
        if num_rows > 0:
            numbers = np.arange(first * size, first * size + num_rows, dtype=np.int64)
            keys.update(dict.fromkeys(_keys(self.sampler.rows(numbers))))
        return list(keys)


def _keys(batch: TrainBatch) -> list[PairKey]:
    return list(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
