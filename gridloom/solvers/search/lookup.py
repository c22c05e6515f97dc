"""Lookups: the colours of a few pieces at a cell decide the output's colour there, as in the demonstrations."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import plain_kernel

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


@plain_kernel
def count_errors(rows: Any, keys: Any, target: Any, errors: Any, wanted: Any, counts: Any, most: Any) -> None:
    """Set errors int64 [pieces] to the cells that the best table of key and piece's colour gets wrong.

    A piece is given up, with more errors than there are cells, once as many pieces as `wanted` has places have fewer.

    Args:
        keys: int64 [cells], one for each cell of the demonstrations.
        target: uint8 [cells].
        wanted: int64 [pieces wanted], filled with the fewest errors, ascending.
        counts: int32 [10, keys, 10], most: int32 [10, keys], scratch.
    """
    last = wanted.size - 1
    for place in range(wanted.size):
        wanted[place] = keys.size + 1
    for i in range(errors.size):
        colours: Any = 0
        wrong = 0
        for k in range(keys.size):
            colour, key = rows[i, k], keys[k]
            if not colours >> colour & 1:
                colours |= 1 << np.int64(colour)
                for known in range(most.shape[1]):
                    most[colour, known] = 0
                    for shown in range(10):
                        counts[colour, known, shown] = 0
            counts[colour, key, target[k]] += 1
            if counts[colour, key, target[k]] > most[colour, key]:
                most[colour, key] += 1
            else:  # a colour that is not the most frequent one of its entry is wrong, whichever that will be
                wrong += 1
                if wrong > wanted[last]:
                    wrong = keys.size + 1
                    break
        errors[i] = wrong
        place = last
        if wrong < wanted[last]:
            while place > 0 and wanted[place - 1] > wrong:
                wanted[place] = wanted[place - 1]
                place -= 1
            wanted[place] = wrong


@plain_kernel
def apply_table(keys: Any, target: Any, starts: Any, demos: Any, row: Any, counts: Any) -> Any:
    """Fill row uint8 [cells of all pairs] by the table of the demonstrations, a demonstration's cells by that of the
    others; 10 where a key is new. Returns whether the table of all is consistent.

    Args:
        counts: int32 [keys, 10], zeros.
    """
    end = starts[demos]
    for k in range(end):
        counts[keys[k], target[k]] += 1
    consistent = True
    for key in range(counts.shape[0]):
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
    wanted = np.empty(2 * BEAM, dtype=np.int64)
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
            counts = np.empty((10, num_keys, 10), dtype=np.int32)
            most = np.empty((10, num_keys), dtype=np.int32)
            count_errors(shown, keys[:end], target, errors, wanted, counts, most)
            for piece in np.lexsort((costs, errors))[: len(wanted)]:
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
            counts = np.zeros((num_keys, 10), dtype=np.int32)
            if apply_table(keys, target, starts, demos, row, counts) and (row[end:] < 10).all():
                found.append(Lookup(pieces, row, cost))
        beam = [pieces for errors_left, _, pieces in grown if errors_left][:BEAM]
    return found
