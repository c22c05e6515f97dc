"""ARC tasks as the solver may know them: demonstrations and test inputs. There is no field for a held-out answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.uint8]
"""uint8 [rows, columns], values 0-9, sides 1-30."""
SEPARATOR = "|||"
"""Between task id, turn and colours in the name of a view, and so in no task id."""


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A demonstration pair."""

    input: Grid
    output: Grid


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One ARC task."""

    task_id: str
    subset: str
    demos: tuple[Pair, ...]
    """All demonstration pairs, in order."""
    tests: tuple[Grid, ...]
    """Test inputs whose answers are held out; empty when the subset is not held out."""
    known: tuple[Pair, ...] = ()
    """Test pairs of a subset that is not held out: further training material."""
    check: tuple[int, ...] = ()
    """Indices of `demos` that training must not see; the leave-one-out verifier uses them."""

    @property
    def train_pairs(self) -> tuple[Pair, ...]:
        """What training may see."""
        return tuple(pair for i, pair in enumerate(self.demos) if i not in self.check) + self.known

    @property
    def check_pairs(self) -> tuple[Pair, ...]:
        """Demonstrations that training has not seen."""
        return tuple(self.demos[i] for i in self.check)


def visible_side(task: Task) -> int:
    """Largest side of any grid of the task; held-out answers are no part of a task."""
    pairs = (*task.demos, *task.known)
    grids = [*(pair.input for pair in pairs), *(pair.output for pair in pairs), *task.tests]
    return max(int(side) for grid in grids for side in grid.shape)


def fitting_canvas(task: Task, sides: Sequence[int]) -> int:
    """Return the smallest of the canvases that holds the visible grids and a border; the largest where none does.

    A held-out answer has no part in it, so one that is larger than all other grids of its task may not fit.
    """
    room = [side for side in sides if side > visible_side(task)]
    return min(room) if room else max(sides)
