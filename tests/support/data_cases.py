"""Small tasks as JSON and as values."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from gridloom.runtime.data.tasks import Grid, Pair, Task

TaskJson = dict[str, Any]


def task_json(demos: int = 2, tests: int = 1, side: int = 2, answers: bool = True) -> TaskJson:
    """A valid task: each grid has another colour, so that pairs can be told apart."""

    def pair(number: int, output: bool = True) -> dict[str, Any]:
        made = {"input": [[number % 10] * side] * side}
        return {**made, "output": [[(number + 5) % 10] * side] * side} if output else made

    return {
        "train": [pair(i + 1) for i in range(demos)],
        "test": [pair(demos + i + 1, answers) for i in range(tests)],
    }


@st.composite
def grids(draw: st.DrawFn, max_side: int = 30, max_colour: int = 9) -> Grid:
    """Any grid up to a side."""
    rows, columns = draw(st.integers(1, max_side)), draw(st.integers(1, max_side))
    cells = draw(st.binary(min_size=rows * columns, max_size=rows * columns))
    return (np.frombuffer(cells, dtype=np.uint8) % (max_colour + 1)).reshape(rows, columns)


@st.composite
def tasks(draw: st.DrawFn, max_side: int = 6, max_colour: int = 9) -> Task:
    """Any small task."""
    grid = grids(max_side, max_colour)
    demos = draw(st.lists(st.builds(Pair, grid, grid), min_size=1, max_size=4))
    return Task("t", "training", tuple(demos), tuple(draw(st.lists(grid, max_size=2))))
