"""Views: invertible augmentations of a task by a dihedral transform, a colour permutation, a canvas offset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc import kernels as arc_kernels
from gridloom.runtime.data.arc.packed import PackedGrids
from gridloom.runtime.data.tasks import DIHEDRAL_INVERSE, SEPARATOR, Grid, Task, apply_dihedral
from gridloom.specs.data import Augment

IDENTITY_COLOURS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
BLANK_NAME = "<blank>"


@dataclass(frozen=True, slots=True)
class View:
    """Augmentation: colour permutation first, then dihedral transform; `offset` only moves tokens on the canvas."""

    dihedral: int = 0
    """0 identity, 1/2/3 rot90 counter-clockwise x1/2/3, 4 flip left-right, 5 flip up-down, 6/7 (anti-)transpose."""
    colours: tuple[int, ...] = IDENTITY_COLOURS
    """Image of each colour 0-9."""
    offset: tuple[int, int] = (0, 0)
    """Rows down and columns right on the canvas."""

    def __post_init__(self) -> None:
        if not 0 <= self.dihedral < 8 or sorted(self.colours) != list(range(10)):
            raise ValueError(f"not a view: dihedral {self.dihedral}, colours {self.colours}")

    def apply(self, grid: Grid) -> Grid:
        """Return the grid under this view, without the offset."""
        return apply_dihedral(np.array(self.colours, dtype=np.uint8)[grid], self.dihedral)

    def inverse(self, grid: Grid) -> Grid:
        """Undo `apply`."""
        back = np.argsort(np.array(self.colours)).astype(np.uint8)
        return back[apply_dihedral(grid, DIHEDRAL_INVERSE[self.dihedral])]

    def name(self, task_id: str) -> str:
        """Return the name of the puzzle id, `TASK|||t<0-7>|||<image of 0..9>`."""
        return f"{task_id}{SEPARATOR}t{self.dihedral}{SEPARATOR}{''.join(map(str, self.colours))}"


IDENTITY = View()


def parse_name(name: str) -> tuple[str, View]:
    """Split a puzzle name into task id and view; a bare task id is the identity. Raises DataError."""
    parts = name.split(SEPARATOR)
    if len(parts) == 1:
        return name, IDENTITY
    try:
        task_id, dihedral, digits = parts
        if not dihedral.startswith("t"):
            raise ValueError
        return task_id, View(int(dihedral[1:]), tuple(int(digit) for digit in digits))
    except ValueError:
        raise DataError(f"not a puzzle name: {name!r}", "it reads TASK|||t<0-7>|||<10 digits>") from None


@dataclass(frozen=True, eq=False)
class ViewTable:
    """Views of many tasks as arrays; the view in row r has puzzle id 1 + r."""

    task_ids: tuple[str, ...]
    start: NDArray[np.int64]
    """int64 [tasks + 1], first row of each task, which holds the identity."""
    dihedral: NDArray[np.uint8]
    colours: NDArray[np.uint8]
    """uint8 [views, 10]"""

    @property
    def num_puzzles(self) -> int:
        """Number of puzzle ids, the blank id 0 included."""
        return len(self.dihedral) + 1

    def view(self, row: int) -> View:
        """Return the view in a row."""
        return View(int(self.dihedral[row]), tuple(self.colours[row].tolist()))

    def of_task(self, index: int) -> tuple[View, ...]:
        """Return the views of one task, identity first."""
        return tuple(self.view(row) for row in range(int(self.start[index]), int(self.start[index + 1])))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Puzzle names by puzzle id, `<blank>` first."""
        digits = (self.colours + np.uint8(48)).tobytes().decode("ascii")
        names = [BLANK_NAME]
        for task_id, (first, last) in zip(self.task_ids, pairwise(self.start.tolist()), strict=True):
            turns = self.dihedral[first:last].tolist()
            names += [
                f"{task_id}{SEPARATOR}t{t}{SEPARATOR}{digits[10 * row : 10 * row + 10]}"
                for row, t in zip(range(first, last), turns, strict=True)
            ]
        return tuple(names)


def view_table(tasks: Sequence[Task], seed: int, copies: int, augment: Augment) -> ViewTable:
    """Draw up to copies + 1 distinct views of each task; see `task_views`."""
    drawn = [_draw(task, seed, copies, augment) for task in tasks]
    counts = [0] + [len(dihedral) for dihedral, _ in drawn]
    return ViewTable(
        task_ids=tuple(task.task_id for task in tasks),
        start=np.cumsum(np.array(counts, dtype=np.int64)),
        dihedral=np.concatenate([dihedral for dihedral, _ in drawn]),
        colours=np.concatenate([colours for _, colours in drawn]),
    )


def task_views(task: Task, seed: int, copies: int, augment: Augment) -> tuple[View, ...]:
    """Return up to copies + 1 views of a task with pairwise distinct content, the identity first.

    Deterministic in (seed, task id, content); fewer copies give a prefix of more. Tasks of few colours have fewer.
    """
    dihedral, colours = _draw(task, seed, copies, augment)
    return tuple(View(t, tuple(c)) for t, c in zip(dihedral.tolist(), colours.tolist(), strict=True))


def _draw(task: Task, seed: int, copies: int, augment: Augment) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if copies == 0 or not (augment.dihedral or augment.colours):
        return np.zeros(1, dtype=np.uint8), np.arange(10, dtype=np.uint8)[None]
    pairs = (*task.demos, *task.known)
    grids = [grid for pair in pairs for grid in (pair.input, pair.output)] + list(task.tests)
    packed = PackedGrids.of(grids)
    inputs = np.array([2 * i for i in range(len(pairs))] + [2 * len(pairs) + i for i in range(len(task.tests))])
    outputs = np.array([2 * i + 1 for i in range(len(pairs))] + [-1] * len(task.tests))
    sums = arc_kernels.colour_sums(packed.cells, packed.start, packed.rows, packed.columns, np.arange(len(grids)))
    key = np.uint64(int.from_bytes(hashlib.sha256(f"{seed}\n{task.task_id}".encode()).digest()[:8], "little"))
    drawn: tuple[NDArray[np.uint8], NDArray[np.uint8]] = arc_kernels.draw_views(
        sums, packed.rows, packed.columns, inputs, outputs, key, copies, augment.dihedral, augment.colours
    )
    return drawn
