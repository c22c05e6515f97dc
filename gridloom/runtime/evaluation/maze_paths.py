"""Counts of marked paths in answers to mazes: precision and recall of the path's cells, and whole paths."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

PATH = 5
"""Token `o` of a path's cell, the focus token of the figures."""


@dataclass(slots=True)
class PathTally:
    """Counts over the mazes answered so far; shares are of all cells or mazes together, not means over batches."""

    num_marked: int = 0
    """Cells that the answers mark, of mazes whose right answer is known."""
    num_path: int = 0
    """Cells of the right paths."""
    num_both: int = 0
    """Cells of both."""
    num_known: int = 0
    """Mazes whose right answer is known."""
    num_mazes: int = 0
    num_valid: int = 0
    """Answers that keep walls, S and G and mark one simple path from S to G, of any length."""
    num_shortest: int = 0
    """Simple paths with the fewest steps."""
    excess: int = 0
    """Steps of the simple paths beyond the fewest, summed."""

    def add(
        self, inputs: NDArray[np.uint8], answers: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> NDArray[np.int32]:
        """Count a batch of mazes uint8 [B, L]; return the steps of each marked path beyond the fewest, int32 [B], -1
        where the answer marks none."""
        known = labels.any(axis=1, keepdims=True)
        marked, right = (answers == PATH) & known, labels == PATH
        excess = excess_steps(inputs, answers)
        self.num_marked += int(marked.sum())
        self.num_path += int(right.sum())
        self.num_both += int((marked & right).sum())
        self.num_known += int(known.sum())
        self.num_mazes += len(inputs)
        self.num_valid += int((excess >= 0).sum())
        self.num_shortest += int((excess == 0).sum())
        self.excess += int(excess[excess > 0].sum())
        return excess

    def __add__(self, other: PathTally) -> PathTally:
        return PathTally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def shares(self) -> dict[str, float]:
        """Return the figures; empty without mazes. Precision and F1 without a marked cell are 0."""
        found: dict[str, float] = {}
        if self.num_known:
            found = {
                "focus_precision": self.num_both / max(self.num_marked, 1),
                "focus_recall": self.num_both / max(self.num_path, 1),
                "focus_f1": 2 * self.num_both / max(self.num_marked + self.num_path, 1),
            }
        if self.num_mazes:
            found |= {"valid_path": self.num_valid / self.num_mazes, "shortest": self.num_shortest / self.num_mazes}
        if self.num_valid:
            found["path_excess"] = self.excess / self.num_valid
        return found


def excess_steps(inputs: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the steps of each marked path beyond the fewest, int32 [B]; -1 where the answer marks no simple path."""
    from gridloom.runtime.data.puzzles.maze_kernels import path_steps  # compiles kernels

    made = path_steps(inputs, answers, round(inputs.shape[1] ** 0.5))
    excess: NDArray[np.int32] = np.where(made[:, 0] < 0, -1, made[:, 0] - made[:, 1]).astype(np.int32)
    return excess
