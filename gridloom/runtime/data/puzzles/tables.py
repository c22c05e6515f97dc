"""Arrays of a puzzle set: questions and answers, by split, with the size of a box and the vocabulary."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "test")
MAZE_TOKENS = "# SGo"
"""Characters of maze tokens 1 to 5; 0 is PAD."""
MAZE_VOCAB = 6


def box_of(size: int) -> tuple[int, int]:
    """Return rows and columns of a sudoku's boxes."""
    return {4: (2, 2), 6: (2, 3), 9: (3, 3)}[size]


def vocab_of(kind: str, size: int) -> int:
    """Return the vocabulary size of mazes, or of sudokus of this size, PAD included."""
    return MAZE_VOCAB if kind == "maze" else size + 2


# --- reading ------------------------------------------------------------------------------------------------------

Tables = dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""(inputs, labels) uint8 [N, L] by split."""
