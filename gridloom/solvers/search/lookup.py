"""Lookups: the colours of a few pieces at a cell decide the output's colour there, as in the demonstrations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import kernel

BEAM = 6
"""Sets of pieces that are kept from one size of sets to the next."""
MOST_PIECES = 3
"""Pieces of a lookup."""
MAX_KEYS = 64
"""Combinations of colours that a table may have."""


class Lookup(NamedTuple):
    """Pieces of a lookup and what it gives."""

    pieces: tuple[int, ...]
    row: NDArray[np.uint8]
    """Cells of all pairs; those of a demonstration by the table of the others."""
    cost: int


@kernel
def count_errors(rows: Any, keys: Any, num_keys: Any, target: Any, errors: Any) -> None:
    """Set errors int64 [pieces] to the cells that the best table of key and piece's colour gets wrong.

    Args:
        keys: int64 [cells] below `num_keys`, one for each cell of the demonstrations.
        target: uint8 [cells].
    """
    counts = np.zeros((10, num_keys, 10), dtype=np.int32)
    for i in range(errors.size):
        colours: Any = 0
        for k in range(keys.size):
            colour = rows[i, k]
            if not colours >> colour & 1:
                colours |= 1 << np.int64(colour)
                counts[colour] = 0
            counts[colour, keys[k], target[k]] += 1
        wrong = keys.size
        for colour in range(10):
            if colours >> colour & 1:
                for key in range(num_keys):
                    most = 0
                    for shown in range(10):
                        most = max(most, counts[colour, key, shown])
                    wrong -= most
        errors[i] = wrong


@kernel
def apply_table(keys: Any, num_keys: Any, target: Any, starts: Any, demos: Any, row: Any) -> Any:
    """Fill row uint8 [cells of all pairs] by the table of the demonstrations, a demonstration's cells by that of the
    others; 10 where a key is new. Returns whether the table of all is consistent."""
    counts = np.zeros((num_keys, 10), dtype=np.int32)
    end = starts[demos]
    for k in range(end):
        counts[keys[k], target[k]] += 1
    consistent = True
    for key in range(num_keys):
        kinds = 0
        for colour in range(10):
            kinds += counts[key, colour] > 0
        consistent &= kinds <= 1
    for p in range(starts.size - 1):
        if p < demos:
            for k in range(starts[p], starts[p + 1]):
                counts[keys[k], target[k]] -= 1
        for k in range(starts[p], starts[p + 1]):
            best = 10
            for colour in range(10):
                if counts[keys[k], colour] > 0 and (best == 10 or counts[keys[k], colour] > counts[keys[k], best]):
                    best = colour
            row[k] = best
        if p < demos:
            for k in range(starts[p], starts[p + 1]):
                counts[keys[k], target[k]] += 1
    return consistent


def joint_keys(rows: NDArray[np.uint8], pieces: tuple[int, ...]) -> tuple[NDArray[np.int64], int]:
    """Return a number for the pieces' colours at each cell, dense from 0, and how many there are."""
    keys = np.zeros(rows.shape[1], dtype=np.int64)
    for piece in pieces:
        keys = keys * 10 + rows[piece]
    _, dense = np.unique(keys, return_inverse=True)
    return dense.astype(np.int64).ravel(), int(dense.max()) + 1


def find_lookups(
    rows: NDArray[np.uint8],
    costs: NDArray[np.int64],
    target: NDArray[np.uint8],
    starts: NDArray[np.int64],
    demos: int,
) -> list[Lookup]:
    """Return lookups whose table is consistent over the demonstrations and knows every cell of the tests.

    Args:
        rows: uint8 [pieces, cells of all pairs]; costs: of the pieces.
        target: cells of the demonstrations' outputs.
        starts: int64 [pairs + 1], first cell of each pair.
    """
    end = int(starts[demos])
    shown = np.ascontiguousarray(rows[:, :end])
    beam: list[tuple[int, ...]] = [()]
    found: list[Lookup] = []
    seen: set[tuple[int, ...]] = set()
    for _ in range(MOST_PIECES):
        grown: list[tuple[int, int, tuple[int, ...]]] = []
        for chosen in beam:
            keys, num_keys = joint_keys(rows, chosen)
            if num_keys > MAX_KEYS:
                continue
            errors = np.empty(len(rows), dtype=np.int64)
            count_errors(shown, keys[:end], num_keys, target, errors)
            for piece in np.lexsort((costs, errors))[: 2 * BEAM]:
                pieces = tuple(sorted((*chosen, int(piece))))
                if pieces not in seen:
                    seen.add(pieces)
                    grown.append((int(errors[piece]), int(costs[list(pieces)].sum()), pieces))
        grown.sort()
        for errors_left, cost, pieces in grown:
            if errors_left:
                continue
            keys, num_keys = joint_keys(rows, pieces)
            row = np.empty(rows.shape[1], dtype=np.uint8)
            if apply_table(keys, num_keys, target, starts, demos, row) and (row[end:] < 10).all():
                found.append(Lookup(pieces, row, cost))
        beam = [pieces for errors_left, _, pieces in grown if errors_left][:BEAM]
    return found
