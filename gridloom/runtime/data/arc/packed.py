"""Tasks as flat arrays, the input of the numba kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid, Task


@dataclass(frozen=True, slots=True, eq=False)
class PackedGrids:
    """Grids concatenated into one array."""

    cells: NDArray[np.uint8]
    """uint8 [total cells], row by row."""
    start: NDArray[np.int64]
    """int64 [grids], first cell of each grid."""
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]

    @classmethod
    def of(cls, grids: Sequence[Grid]) -> PackedGrids:
        """Copy the grids into one array."""
        shapes = np.array([grid.shape for grid in grids], dtype=np.int32).reshape(len(grids), 2)
        sizes = shapes.prod(axis=1, dtype=np.int64)
        cells = np.concatenate([grid.reshape(-1) for grid in grids]) if grids else np.zeros(0, dtype=np.uint8)
        return cls(
            cells=np.ascontiguousarray(cells, dtype=np.uint8),
            start=np.cumsum(sizes) - sizes,
            rows=np.ascontiguousarray(shapes[:, 0]),
            columns=np.ascontiguousarray(shapes[:, 1]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class PackedPairs:
    """Training pairs of tasks, without test inputs or check pairs."""

    grids: PackedGrids
    """Input of pair p at 2p, output at 2p + 1."""
    pair_start: NDArray[np.int64]
    """int64 [tasks + 1], first pair of each task."""

    @classmethod
    def of(cls, tasks: Iterable[Task]) -> PackedPairs:
        """Copy `train_pairs` of every task."""
        grids: list[Grid] = []
        starts = [0]
        for task in tasks:
            for pair in task.train_pairs:
                grids += (pair.input, pair.output)
            starts.append(len(grids) // 2)
        return cls(PackedGrids.of(grids), np.array(starts, dtype=np.int64))
