"""Keys of sudokus that are invariant under permutations of digits, rows, columns, bands, stacks and transposition.

By colour refinement: each round rehashes rows, columns, boxes and digits from the cells that they share. Equivalent
sudokus always have equal keys. Inequivalent sudokus rarely have equal keys, too; where keys separate test from training
sudokus, such a collision discards a puzzle and never breaks the separation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import derive, kernel, mix

ROUNDS = 4


@kernel
def unordered_hash(one: Any, other: Any) -> Any:
    """Return a hash of two signatures that is symmetric in them."""
    return mix(mix(one) + mix(other))


@kernel
def sudoku_keys(puzzles: Any, answers: Any, size: Any, box_rows: Any, box_columns: Any) -> Any:
    """Return keys uint64 [N] of puzzles uint8 [N, size * size] (0 for blank) with their answers.

    Rows and columns are hashed alike, and pairs of them symmetrically, so the key is invariant under transposition.
    """
    keys = np.zeros(puzzles.shape[0], dtype=np.uint64)
    # 0 rows, 1 columns, 2 boxes, 3 digits, 4 bands, 5 stacks
    signs = np.zeros((6, size), dtype=np.uint64)
    sums = np.zeros((6, size), dtype=np.uint64)
    for n in range(puzzles.shape[0]):
        for kind in range(6):
            for i in range(size):
                signs[kind, i] = np.uint64(kind // 2 if kind >= 2 else 0)
        signs[4, :] = np.uint64(4)
        signs[5, :] = np.uint64(4)
        for _ in range(ROUNDS):
            sums[:] = np.uint64(0)
            for place in range(size * size):
                row, column = place // size, place % size
                band, stack = row // box_rows, column // box_columns
                box = band * box_rows + stack
                digit = np.int64(answers[n, place]) - 1
                cell = derive(signs[3, digit], np.int64(puzzles[n, place] != 0))
                inside = derive(cell, 1) ^ derive(signs[2, box], 2)
                sums[0, row] += mix(inside + mix(signs[1, column]))
                sums[1, column] += mix(inside + mix(signs[0, row]))
                meeting = unordered_hash(signs[0, row], signs[1, column])
                sums[2, box] += mix(cell + meeting)
                sums[3, digit] += mix(inside + meeting)
            for i in range(size):
                sums[4, i // box_rows] += mix(signs[0, i])
                sums[5, i // box_columns] += mix(signs[1, i])
            for i in range(size):
                sums[0, i] += mix(signs[4, i // box_rows])
                sums[1, i] += mix(signs[5, i // box_columns])
                sums[2, i] += unordered_hash(signs[4, i // box_rows], signs[5, i % box_rows])
            for kind in range(6):
                for i in range(size):
                    signs[kind, i] = mix(signs[kind, i] + mix(sums[kind, i]))
        total = np.uint64(0)
        for i in range(size):
            total += mix(signs[0, i]) + mix(signs[1, i]) + mix(signs[2, i]) + mix(signs[3, i])
        keys[n] = total
    return keys
