"""ARC tasks without answers: demonstrations and test inputs. No field of `Task` can hold a held-out answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.uint8]
"""uint8 [rows, columns], values 0-9, sides 1-30."""
SEPARATOR = "|||"
"""Separator of task id, dihedral id and colours in the name of a view; task ids must not contain it."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Pair of an input and an output grid."""

    input: Grid
    output: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """ARC task: demonstrations and test inputs."""

    task_id: str
    subset: str
    demos: tuple[Pair, ...]
    """Demonstration pairs in file order."""
    tests: tuple[Grid, ...]
    """Test inputs whose answers are held out; empty when the subset is not held out."""
    known: tuple[Pair, ...] = ()
    """Test pairs of a subset that is not held out: further training material."""
    check: tuple[int, ...] = ()
    """Indices of `demos` that training must not see; the leave-one-out verifier uses them."""

    @property
    def train_pairs(self) -> tuple[Pair, ...]:
        """Pairs that training may read: demonstrations outside `check`, then `known`."""
        return tuple(pair for i, pair in enumerate(self.demos) if i not in self.check) + self.known

    @property
    def check_pairs(self) -> tuple[Pair, ...]:
        """Demonstrations that training does not read."""
        return tuple(self.demos[i] for i in self.check)


def visible_side(task: Task) -> int:
    """Return the largest side of the task's grids; held-out answers are not part of a task."""
    pairs = (*task.demos, *task.known)
    grids = [*(pair.input for pair in pairs), *(pair.output for pair in pairs), *task.tests]
    return max(int(side) for grid in grids for side in grid.shape)


def fitting_canvas(task: Task, sides: Sequence[int]) -> int:
    """Return the smallest canvas side that holds the visible grids and a border, or the largest side if none does.

    Held-out answers are not considered, so an answer that is larger than all other grids of its task may not fit.
    """
    room = [side for side in sides if side > visible_side(task)]
    return min(room) if room else max(sides)


def tasks_digest(tasks: Iterable[Task]) -> str:
    """Return the sha256 of ids, subsets, demonstrations, test inputs, known pairs and check indices, in order."""
    state = hashlib.sha256(b"gridloom tasks 1\n")
    for task in tasks:
        counts = f"{len(task.demos)} {len(task.known)} {len(task.tests)} {task.check}"
        state.update(f"{task.task_id}\n{task.subset}\n{counts}\n".encode())
        for pair in (*task.demos, *task.known):
            state.update(grid_bytes(pair.input))
            state.update(grid_bytes(pair.output))
        for grid in task.tests:
            state.update(grid_bytes(grid))
    return state.hexdigest()


def answers_digest(answers: Mapping[str, Sequence[Grid]]) -> str:
    """Return the sha256 of the held-out answers, in order of task id."""
    state = hashlib.sha256(b"gridloom answers 1\n")
    for task_id in sorted(answers):
        state.update(f"{task_id}\n{len(answers[task_id])}\n".encode())
        for grid in answers[task_id]:
            state.update(grid_bytes(grid))
    return state.hexdigest()


def grid_bytes(grid: Grid) -> bytes:
    """Return rows, columns, then the cells: one byte each."""
    return bytes(grid.shape) + grid.tobytes()


DIHEDRAL_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
"""Inverse of each dihedral id."""


def apply_dihedral(grid: Grid, dihedral: int) -> Grid:
    """Return a contiguous copy of the grid under a dihedral id: 1/2/3 rot90 counter-clockwise x1/2/3, 4 flip
    left-right, 5 flip up-down, 6 transpose, 7 anti-transpose."""
    if dihedral == 0:
        return np.ascontiguousarray(grid)
    if dihedral == 1:
        return np.ascontiguousarray(grid.T[::-1])
    if dihedral == 2:
        return np.ascontiguousarray(grid[::-1, ::-1])
    if dihedral == 3:
        return np.ascontiguousarray(grid[::-1].T)
    if dihedral == 4:
        return np.ascontiguousarray(grid[:, ::-1])
    if dihedral == 5:
        return np.ascontiguousarray(grid[::-1])
    if dihedral == 6:
        return np.ascontiguousarray(grid.T)
    return np.ascontiguousarray(grid[::-1, ::-1].T)
