"""Shape of a packed row: the rectangle of an input, of the output that the task's visible pairs suggest, and a border.

The shape depends on the input's size and on the pairs of the task that training may read, never on an answer that is
held out, so training and evaluation lay out alike. A rule of one side of the output fits a task if it gives that side
for each of those pairs: a ratio or a difference to a side of the input, a ratio with a line between panels, or a
constant. Where several rules fit, as with pairs of one size, the largest result counts: an empty cell costs time, a
missing cell costs the answer. Where none fits, the side goes one step beyond the task's largest output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Task

Sizes = NDArray[np.int64]
"""int64 [pairs, 2], rows and columns."""
_TURNING = (1, 3, 6, 7)
"""Dihedral ids that exchange rows and columns."""


@dataclass(frozen=True, slots=True, eq=False)
class ShapeRule:
    """Sizes of a task's visible pairs, from which the output's size for another input is inferred."""

    inputs: Sizes
    outputs: Sizes
    canvas: int
    """Largest side of a row in cells."""

    @classmethod
    def of(cls, task: Task, canvas: int) -> ShapeRule:
        """Return the rule of a task, from its training pairs."""
        pairs = task.train_pairs
        return cls(_sizes([p.input.shape for p in pairs]), _sizes([p.output.shape for p in pairs]), canvas)

    def output(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns that the output of an input of `size` is given, at most `canvas`."""
        rows, columns = (self._side(axis, size) for axis in (0, 1))
        return rows, columns

    def row(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return rows and columns of the row of an input of `size`: input, output, and a border as far as it fits."""
        output = self.output(size)
        rows, columns = (min(self.canvas, max(size[axis], output[axis]) + 1) for axis in (0, 1))
        return rows, columns

    def _side(self, axis: int, size: tuple[int, int]) -> int:
        if not len(self.outputs):
            return size[axis]
        shown = self.outputs[:, axis]
        found = [side for other in (axis, 1 - axis) for side in _fitting(self.inputs[:, other], shown, size[other])]
        if (shown == shown[0]).all():
            found.append(int(shown[0]))
        return min(self.canvas, max(found) if found else _next_step(shown))


def _fitting(before: NDArray[np.int64], after: NDArray[np.int64], side: int) -> list[int]:
    """Return the results, for a side of an input, of the rules that give `after` for each of the sides `before`."""
    found = []
    for line in (0, 1):
        b, a = before + line, after + line
        if (a * b[0] == a[0] * b).all():
            found.append(-(-(side + line) * int(a[0]) // int(b[0])) - line)
    if (after - before == after[0] - before[0]).all():
        found.append(side + int(after[0] - before[0]))
    return found


def _next_step(sides: NDArray[np.int64]) -> int:
    """Return the side that follows on unlike sides without a rule: the largest, and its distance from the second once
    more, as 20 after 5, 10 and 15."""
    distinct = np.unique(sides)
    return int(2 * distinct[-1] - distinct[-2])


def turned(shapes: NDArray[np.int64], dihedral: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return shapes int64 [B, 2] of rows under dihedral views."""
    across = np.isin(dihedral, _TURNING)
    return np.where(across[:, None], shapes[:, ::-1], shapes)


def task_shapes(tasks: Sequence[Task], canvas: int) -> NDArray[np.int64]:
    """Return the row shapes of the training pairs of all tasks, in order, under the identity: int64 [pairs, 2].

    Each holds the pair's output: a rule that fits gives it, and without one the row has room for the largest.
    """
    shapes: list[tuple[int, int]] = []
    for task in tasks:
        rule = ShapeRule.of(task, canvas)
        known: dict[tuple[int, int], tuple[int, int]] = {}
        for pair in task.train_pairs:
            size = (pair.input.shape[0], pair.input.shape[1])
            if size not in known:
                known[size] = rule.row(size)
            shapes.append(known[size])
    return _sizes(shapes)


def _sizes(shapes: Sequence[tuple[int, ...]]) -> Sizes:
    return np.array(shapes, dtype=np.int64).reshape(-1, 2)
