"""Packed rows in miniature: four tasks on grids of unlike size, and a network that reads them."""

from __future__ import annotations

import numpy as np
from train_support import MODEL

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.tasks import Pair, Task, tasks_digest
from gridloom.specs.data import Augment

PACKED = MODEL.model_copy(update={"positions": "rope_2d"})


def sizes_dataset() -> Dataset:
    """Tasks on grids of three sizes: copies, each with a known test pair."""
    rng = np.random.default_rng(0)

    def pairs(shape: tuple[int, int], number: int) -> tuple[Pair, ...]:
        grids = [rng.integers(0, 10, shape).astype(np.uint8) for _ in range(number)]
        return tuple(Pair(grid, grid.copy()) for grid in grids)

    tasks = tuple(
        Task(f"t{i}", "training", pairs(shape, 3), (), pairs(shape, 1))
        for i, shape in enumerate([(1, 2), (3, 3), (5, 4), (2, 6)])
    )
    return Dataset(tasks, 7, tasks_digest(tasks), Augment(copies=3), "sizes 1", packed=True)


DATASET = sizes_dataset()
