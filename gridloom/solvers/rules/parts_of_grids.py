"""Connected parts of a grid and their measures, each written to every cell of its part."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import plain_kernel
from gridloom.runtime.data.tasks import Grid

Numbers = NDArray[np.int16]
"""int16 [rows, columns]: one feature of the cells of a grid."""


@plain_kernel
def label_parts(grid: Any, sides: Any, any_colour: Any, labels: Any, stack: Any) -> Any:
    """Number the connected parts of a grid from 0 in reading order, and return how many there are.

    Args:
        grid: uint8 [rows, columns].
        sides: 4 or 8 sides on which cells of a part touch.
        any_colour: whether a part may have several colours; then background is in no part (-1).
        labels: int32 [rows, columns], filled.
        stack: int32 [cells], scratch.
    """
    h, w = grid.shape
    for start in range(h * w):
        labels[start // w, start % w] = -1
    number = 0
    for start in range(h * w):
        r, c = start // w, start % w
        if labels[r, c] >= 0 or (any_colour and grid[r, c] == 0):
            continue
        labels[r, c] = number
        stack[0] = start
        top = 1
        while top > 0:
            top -= 1
            r, c = stack[top] // w, stack[top] % w
            for rr in range(max(r - 1, 0), min(r + 2, h)):
                for cc in range(max(c - 1, 0), min(c + 2, w)):
                    if labels[rr, cc] >= 0 or (sides == 4 and rr != r and cc != c):
                        continue
                    if (any_colour and grid[rr, cc] != 0) or (not any_colour and grid[rr, cc] == grid[r, c]):
                        labels[rr, cc] = number
                        stack[top] = rr * w + cc
                        top += 1
        number += 1
    return number


class Part(NamedTuple):
    """Connected part of a grid."""

    colour: int
    """Its most frequent colour."""
    rare: int
    """Its least frequent colour."""
    cells: int
    top: int
    left: int
    height: int
    width: int
    mask: NDArray[np.bool_]
    """[height, width]: its cells."""
    colours: int
    image: Grid
    """[height, width]: its cells, 0 elsewhere."""
    holes: int
    """Parts of background (connected on four sides) that it encloses in its box."""
    hole_cells: int


def parts_of(grid: Grid, labels: NDArray[np.int32], number: int) -> list[Part]:
    """Return the parts of a grid by its labels."""
    found = []
    h, w = grid.shape
    rows, columns = np.divmod(np.arange(h * w), w)
    flat = labels.ravel()
    for label in range(number):
        where = np.flatnonzero(flat == label)
        r, c = rows[where], columns[where]
        top, left = int(r.min()), int(c.min())
        height, width = int(r.max()) - top + 1, int(c.max()) - left + 1
        mask = np.zeros((height, width), dtype=np.bool_)
        mask[r - top, c - left] = True
        image = np.where(mask, grid[top : top + height, left : left + width], 0).astype(np.uint8)
        counts = np.bincount(grid.ravel()[where], minlength=10)
        present = np.flatnonzero(counts)
        rare = int(present[np.argmin(counts[present])])
        holes, hole_cells = _holes(mask)
        found.append(
            Part(
                int(counts.argmax()), rare, len(where), top, left, height, width, mask, len(present), image, holes,
                hole_cells,
            )
        )  # fmt: skip
    return found


def _holes(mask: NDArray[np.bool_]) -> tuple[int, int]:
    if mask.all() or min(mask.shape) < 3:
        return 0, 0
    padded = np.pad(mask, 1).astype(np.uint8)
    labels = np.empty(padded.shape, dtype=np.int32)
    number = int(label_parts(padded, 4, False, labels, np.empty(padded.size, dtype=np.int32)))
    outside = labels[0, 0]
    inner = (padded == 0) & (labels != outside)
    return len(np.unique(labels[inner])) if number > 1 else 0, int(inner.sum())


MEASURES = (
    "cells", "rank", "rank_up", "height", "width", "longer", "solid", "square", "holes", "hole_cells", "touches",
    "mirrored_across", "mirrored_down", "symmetric", "copies", "same_size", "same_colour", "colours", "from_top",
    "from_left", "number",
)  # fmt: skip
"""Measures of a part, in the order in which `measures` gives them."""


def measures(parts: list[Part], shape: tuple[int, int]) -> NDArray[np.int16]:
    """Return int16 [parts, measures]. Ranks, copies and orders are among the parts that are not background."""
    h, w = shape
    coloured = [part for part in parts if part.colour != 0 or part.colours > 1]
    sizes = sorted({part.cells for part in coloured}, reverse=True)
    tops = sorted({part.top for part in coloured})
    lefts = sorted({part.left for part in coloured})
    shapes = Counter((part.mask.shape, part.mask.tobytes()) for part in coloured)
    same_size = Counter(part.cells for part in coloured)
    same_colour = Counter(part.colour for part in coloured)
    table = np.zeros((len(parts), len(MEASURES)), dtype=np.int16)
    for row, part in zip(table, parts, strict=True):
        ground = part.colour == 0 and part.colours == 1
        across = np.array_equal(part.image, part.image[:, ::-1])
        down = np.array_equal(part.image, part.image[::-1])
        touches = part.top == 0 or part.left == 0 or part.top + part.height == h or part.left + part.width == w
        turned = part.height == part.width and np.array_equal(part.image, part.image.T)
        row[:] = (
            part.cells,
            -1 if ground else sizes.index(part.cells),
            -1 if ground else len(sizes) - 1 - sizes.index(part.cells),
            part.height,
            part.width,
            (part.height > part.width) - (part.height < part.width),
            part.cells == part.height * part.width,
            part.height == part.width,
            part.holes,
            part.hole_cells,
            touches,
            across,
            down,
            across or down or turned,
            0 if ground else shapes[part.mask.shape, part.mask.tobytes()],
            0 if ground else same_size[part.cells],
            0 if ground else same_colour[part.colour],
            part.colours,
            -1 if ground else tops.index(part.top),
            -1 if ground else lefts.index(part.left),
            len(coloured),
        )
    return table
