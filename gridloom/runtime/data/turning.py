"""The eight symmetries of the square, by the reference's ids."""

from __future__ import annotations

import numpy as np

from gridloom.runtime.data.tasks import Grid

DIHEDRAL_INVERSE = (0, 3, 2, 1, 4, 5, 6, 7)
"""Id of the inverse of each dihedral id."""


def turn(grid: Grid, dihedral: int) -> Grid:
    """Return the grid turned, contiguous: 1/2/3 rot90 counter-clockwise once/twice/thrice, 4 flip left-right, 5 flip
    up-down, 6 transpose, 7 anti-transpose."""
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
