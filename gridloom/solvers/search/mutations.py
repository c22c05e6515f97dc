"""Mutations of grids: new inputs of a task, near those that it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridloom.runtime.data.files.grids import MAX_SIDE
from gridloom.runtime.data.tasks import Grid


def mutate(grid: Grid, others: Sequence[Grid], source: np.random.Generator) -> Grid:
    """Return a grid after one to three random mutations.

    Args:
        others: grids whose colours may be used.
    """
    palette = np.unique(np.concatenate([other.ravel() for other in (grid, *others)]))
    found = grid.copy()
    for _ in range(int(source.integers(1, 4))):
        found = MUTATIONS[int(source.integers(len(MUTATIONS)))](found, palette, source)
    return np.ascontiguousarray(found)


def _exchange_colours(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Exchange two colours other than background."""
    colours = palette[palette != 0]
    if colours.size < 2:
        return grid
    a, b = source.choice(colours, 2, replace=False)
    table = np.arange(10, dtype=np.uint8)
    table[a], table[b] = b, a
    return table[grid]


def _set_cell(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Give a cell a colour of the palette."""
    found = grid.copy()
    found[source.integers(grid.shape[0]), source.integers(grid.shape[1])] = source.choice(palette)
    return found


def _move_box(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Move the content of a box; what it leaves becomes the most frequent colour."""
    (top, left), (h, w) = _box(grid, source)
    ground = np.bincount(grid.ravel(), minlength=10).argmax()
    found, part = grid.copy(), grid[top : top + h, left : left + w].copy()
    found[top : top + h, left : left + w] = ground
    r, c = source.integers(grid.shape[0] - h + 1), source.integers(grid.shape[1] - w + 1)
    found[r : r + h, c : c + w] = part
    return found


def _copy_box(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Copy the content of a box to another place."""
    (top, left), (h, w) = _box(grid, source)
    found = grid.copy()
    r, c = source.integers(grid.shape[0] - h + 1), source.integers(grid.shape[1] - w + 1)
    found[r : r + h, c : c + w] = grid[top : top + h, left : left + w]
    return found


def _reflect(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Reflect left-right or up-down."""
    return grid[:, ::-1] if source.integers(2) else grid[::-1]


def _shift(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Shift all cells round the edges, along one axis."""
    axis = int(source.integers(2))
    return np.roll(grid, int(source.integers(1, max(2, grid.shape[axis]))), axis)


def _repeat_line(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Repeat a row or a column."""
    axis = int(source.integers(2))
    if grid.shape[axis] >= MAX_SIDE:
        return grid
    at = int(source.integers(grid.shape[axis]))
    return np.insert(grid, at, grid.take(at, axis), axis)


def _delete_line(grid: Grid, palette: Grid, source: np.random.Generator) -> Grid:
    """Delete a row or a column."""
    axis = int(source.integers(2))
    return grid if grid.shape[axis] < 2 else np.delete(grid, int(source.integers(grid.shape[axis])), axis)


def _box(grid: Grid, source: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
    h = int(source.integers(1, max(2, grid.shape[0] // 2 + 1)))
    w = int(source.integers(1, max(2, grid.shape[1] // 2 + 1)))
    return (int(source.integers(grid.shape[0] - h + 1)), int(source.integers(grid.shape[1] - w + 1))), (h, w)


MUTATIONS = (_exchange_colours, _set_cell, _move_box, _copy_box, _reflect, _shift, _repeat_line, _delete_line)
"""Every mutation: (grid, colours that may be used, source of random numbers) -> grid with sides of 1 to 30."""
