"""Sampler of maze and sudoku training rows: every group once per epoch, under a random symmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data import kernels
from gridloom.runtime.data.batch import TrainBatch
from gridloom.runtime.data.kernels import below, derive, dihedral_cell, kernel
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet
from gridloom.runtime.data.puzzles.sudoku_kernels import shuffle_board
from gridloom.runtime.data.puzzles.tables import box_of


@kernel
def draw_mazes(
    inputs: Any, labels: Any, chosen: Any, numbers: Any, key: Any, size: Any, out_inputs: Any, out_labels: Any
) -> None:
    """Write the chosen mazes into uint8 [B, size * size], each under a dihedral id derived from (key, row number)."""
    for b in range(chosen.size):
        turn = below(derive(derive(key, 7), numbers[b]), 8)
        for r in range(size):
            for c in range(size):
                tr, tc = dihedral_cell(turn, r, c, size, size)
                out_inputs[b, tr * size + tc] = inputs[chosen[b], r * size + c]
                out_labels[b, tr * size + tc] = labels[chosen[b], r * size + c]


@kernel
def draw_sudokus(
    inputs: Any,
    labels: Any,
    chosen: Any,
    numbers: Any,
    key: Any,
    size: Any,
    box_rows: Any,
    box_columns: Any,
    out_inputs: Any,
    out_labels: Any,
) -> None:
    """Write the chosen sudokus into uint8 [B, size * size], each under a symmetry derived from (key, row number)."""
    for b in range(chosen.size):
        state = derive(derive(key, 7), numbers[b])
        shuffle_board(inputs[chosen[b]], out_inputs[b], state, size, box_rows, box_columns)
        shuffle_board(labels[chosen[b]], out_labels[b], state, size, box_rows, box_columns)


class PuzzleSampler:
    """Infinite stream of training rows; row n depends only on (seed, n), as in `Sampler`."""

    def __init__(self, puzzles: PuzzleSet, seed: int) -> None:
        """Read the training split into memory. Raises DataError when there is none."""
        if "train" not in puzzles.splits:
            raise DataError(f"this {puzzles.kind} set has no training puzzles", "raise train")
        arrays = puzzles.splits["train"]
        self.puzzles = puzzles
        self._inputs = np.ascontiguousarray(arrays.inputs, dtype=np.uint8)
        self._labels = np.ascontiguousarray(arrays.labels, dtype=np.uint8)
        self._key = np.uint64(seed % 2**64)
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, dtype=np.int64))

    @property
    def epoch_rows(self) -> int:
        """Rows of one epoch."""
        return len(self._inputs)

    @property
    def num_puzzles(self) -> int:
        """Number of puzzle ids: only the blank one."""
        return 1

    def batch(self, step: int, batch_size: int) -> TrainBatch:
        """Return rows step * batch_size ... of the stream; steps count from 0."""
        return self.rows(np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64))

    def rows(self, numbers: NDArray[np.int64]) -> TrainBatch:
        """Return the rows of these numbers, in this order."""
        epochs, within = np.divmod(numbers, self.epoch_rows)
        chosen = np.zeros(len(numbers), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            if self._epoch[0] != epoch:
                self._epoch = (epoch, kernels.epoch_order(self._key, epoch, self.epoch_rows))
            here = epochs == epoch
            chosen[here] = self._epoch[1][within[here]]
        size = self.puzzles.size
        inputs, labels = (np.empty((len(numbers), size * size), dtype=np.uint8) for _ in range(2))
        if not self.puzzles.augment:
            inputs, labels = self._inputs[chosen], self._labels[chosen]
        elif self.puzzles.kind == "maze":
            draw_mazes(self._inputs, self._labels, chosen, numbers, self._key, size, inputs, labels)
        else:
            draw_sudokus(self._inputs, self._labels, chosen, numbers, self._key, size, *box_of(size), inputs, labels)
        blank = np.zeros(len(numbers), dtype=np.int32)
        return TrainBatch(
            inputs=inputs,
            labels=labels,
            puzzle_ids=blank,
            task_index=chosen.astype(np.int32),
            view_index=blank,
            pair_index=blank,
            offsets=np.zeros((len(numbers), 2), dtype=np.int32),
        )
