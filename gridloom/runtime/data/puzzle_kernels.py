"""numba kernels that draw maze and sudoku rows under random symmetries, question and answer alike."""

from __future__ import annotations

from typing import Any

from gridloom.runtime.data.kernels import below, derive, kernel, turned
from gridloom.runtime.data.sudoku_kernels import shuffle_board


@kernel
def draw_mazes(
    inputs: Any, labels: Any, chosen: Any, numbers: Any, key: Any, size: Any, out_inputs: Any, out_labels: Any
) -> None:
    """Write the chosen mazes turned by a dihedral id that (key, row number) decides into uint8 [B, size * size]."""
    for b in range(chosen.size):
        turn = below(derive(derive(key, 7), numbers[b]), 8)
        for r in range(size):
            for c in range(size):
                tr, tc = turned(turn, r, c, size, size)
                out_inputs[b, tr * size + tc] = inputs[chosen[b], r * size + c]
                out_labels[b, tr * size + tc] = labels[chosen[b], r * size + c]


@kernel
def draw_sudokus(
    inputs: Any,
    labels: Any,
    chosen: Any,
    numbers: Any,
    key: Any,
    size: Any,
    box_rows: Any,
    box_columns: Any,
    out_inputs: Any,
    out_labels: Any,
) -> None:
    """Write the chosen sudokus under an exchange that (key, row number) decides into uint8 [B, size * size]."""
    for b in range(chosen.size):
        state = derive(derive(key, 7), numbers[b])
        shuffle_board(inputs[chosen[b]], out_inputs[b], state, size, box_rows, box_columns)
        shuffle_board(labels[chosen[b]], out_labels[b], state, size, box_rows, box_columns)
