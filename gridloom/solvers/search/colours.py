"""Roles of colours: a permutation of the colours for each grid, so that colours that play one part are one colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import plain_kernel
from gridloom.runtime.data.tasks import Grid
from gridloom.solvers.search.cells import count_cells, count_parts, enclosed

IDENTITY = np.arange(10, dtype=np.uint8)
_FEATURES = 24


@plain_kernel
def colour_features(grid: Any, features: Any, src: Any, buffer: Any, work: Any) -> None:
    """Set features float64 [10, 24] of the colours of a grid uint8 [rows, columns]: counts of cells, parts and enclosed
    cells and their inverses, the colour itself, and how far its cells reach in eight directions; 0 where absent.

    Args:
        src, buffer: uint8 [cells], work: int32 [4 * cells + 8], scratch.
    """
    h, w = grid.shape
    for colour in range(10):
        for k in range(features.shape[1]):
            features[colour, k] = 0.0
        for r in range(h):
            for c in range(w):
                src[r * w + c] = 1 if grid[r, c] == colour else 0
        number = count_cells(src, h * w)
        if number == 0:
            continue
        parts = count_parts(src, h, w, work)
        enclosed(src, h, w, np.int64(0), np.int64(0), buffer, work)
        inner = count_cells(buffer, h * w)
        features[colour, 0], features[colour, 1] = number, 1.0 / number
        features[colour, 2], features[colour, 3] = parts, 1.0 / parts
        features[colour, 4], features[colour, 5] = inner + 0.001, 1.0 / (inner + 0.001)
        for k in range(10):
            features[colour, 6 + k] = 1.5 if k == colour else 1.0
        for k in range(8):
            dx = 1 if k in (0, 4, 6) else -1 if k in (1, 5, 7) else 0
            dy = 1 if k in (2, 4, 7) else -1 if k in (3, 5, 6) else 0
            farthest = -1000
            for r in range(h):
                for c in range(w):
                    if src[r * w + c] != 0:
                        farthest = max(farthest, (2 * c - w + 1) * dx + (2 * r - h + 1) * dy)
            features[colour, 16 + k] = 200.0 + farthest * (3.0 if k < 4 else 2.0)


def colour_roles(inputs: Sequence[Grid], outputs: Sequence[Grid], tests: Sequence[Grid]) -> list[NDArray[np.uint8]]:
    """Return a permutation uint8 [10] for each demonstration and then each test input: colour -> role.

    Background, colours of every output, and those that inputs or outputs alone have keep their numbers. The other
    colours of a grid are ordered one after the other, each by the feature that sets one colour most clearly apart in
    every grid.
    """
    sets_in = [set(np.unique(grid).tolist()) for grid in inputs]
    sets_out = [set(np.unique(grid).tolist()) for grid in outputs]
    some_in, all_in = set.union(*sets_in), set.intersection(*sets_in)
    some_out, all_out = set.union(*sets_out), set.intersection(*sets_out)
    kept = {0} | (all_out - some_in) | (all_in - some_out) | (all_out if some_out == all_out else set())
    grids = [*inputs, *tests]
    tables = []
    for grid in grids:
        features = np.zeros((10, _FEATURES))
        src, buffer = np.zeros((2, grid.size), dtype=np.uint8)
        work = np.zeros(4 * grid.size + 8, dtype=np.int32)
        colour_features(np.ascontiguousarray(grid), features, src, buffer, work)
        tables.append(features)
    free = kept | (some_out - some_in)
    orders: list[list[int]] = [[] for _ in grids]
    left = [[c for c in sorted(set(np.unique(grid).tolist())) if c not in free] for grid in grids]
    while any(left):
        scores = np.full(_FEATURES, np.inf)
        picks: list[NDArray[np.int64] | None] = []
        for table, colours in zip(tables, left, strict=True):
            if not colours:
                picks.append(None)
                continue
            values = table[colours]
            ranked = np.argsort(-values, axis=0, kind="stable")
            best = values[ranked[0], np.arange(_FEATURES)]
            second = values[ranked[1], np.arange(_FEATURES)] if len(colours) > 1 else best / 1000
            scores = np.minimum(scores, best / second)
            picks.append(ranked[0])
        feature = int(np.argmax(scores))
        for order, colours, pick in zip(orders, left, picks, strict=True):
            if pick is not None:
                order.append(colours.pop(int(pick[feature])))
    roles = []
    for order in orders:
        numbers = [number for number in range(10) if number not in kept]
        rest = [colour for colour in range(10) if colour not in kept and colour not in order]
        role = IDENTITY.copy()
        for number, colour in zip(numbers, [*order, *rest], strict=True):
            role[colour] = number
        roles.append(role)
    return roles
