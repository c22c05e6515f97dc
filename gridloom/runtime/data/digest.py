"""Fingerprints of tasks by content: no paths, no times, no dependence on the source's layout."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from gridloom.runtime.data.tasks import Grid, Task


def tasks_digest(tasks: Iterable[Task]) -> str:
    """sha256 over ids, subsets, demonstrations, test inputs, known pairs and check indices, in order."""
    state = hashlib.sha256(b"gridloom tasks 1\n")
    for task in tasks:
        counts = f"{len(task.demos)} {len(task.known)} {len(task.tests)} {task.check}"
        state.update(f"{task.task_id}\n{task.subset}\n{counts}\n".encode())
        for pair in (*task.demos, *task.known):
            state.update(grid_bytes(pair.input))
            state.update(grid_bytes(pair.output))
        for grid in task.tests:
            state.update(grid_bytes(grid))
    return state.hexdigest()


def answers_digest(answers: Mapping[str, Sequence[Grid]]) -> str:
    """sha256 over the held-out answers, by task id."""
    state = hashlib.sha256(b"gridloom answers 1\n")
    for task_id in sorted(answers):
        state.update(f"{task_id}\n{len(answers[task_id])}\n".encode())
        for grid in answers[task_id]:
            state.update(grid_bytes(grid))
    return state.hexdigest()


def grid_bytes(grid: Grid) -> bytes:
    """Rows, columns, then the cells: one byte each."""
    return bytes(grid.shape) + grid.tobytes()
