"""Small tasks for the solver's tests."""

from __future__ import annotations

import numpy as np

from gridloom.runtime.data.tasks import Pair, Task


def grid(*rows: str) -> np.ndarray:
    """Return a grid from strings of digits."""
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)


def mirror_task(task_id: str = "aaaa0001", num_tests: int = 1) -> Task:
    """A task whose rule is the left-right mirror; its last demonstration is kept from training."""
    demos = tuple(
        Pair(grid(*rows), grid(*(row[::-1] for row in rows)))
        for rows in (("120", "003"), ("010", "220"), ("301", "100", "020"))
    )
    tests = (grid("012", "340"), grid("110", "002"))[:num_tests]
    return Task(task_id=task_id, subset="evaluation", demos=demos, tests=tests, check=(2,))


RIGHT = [[2, 1, 0], [0, 4, 3]]
"""The mirror of the first test input."""
WRONG = [[2, 1, 0], [0, 4, 4]]
