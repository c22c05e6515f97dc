"""Grids and tasks as scripts hold them: plain, comparable, and drawn by notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.arc.read import RawTask
from gridloom.runtime.data.files.grids import read_grid
from gridloom.runtime.data.files.json_files import load_json
from gridloom.runtime.show.draw import sheet_svg
from gridloom.runtime.show.look import Panel, Sheet


class Grid:
    """An ARC grid: 1 to 30 rows of 1 to 30 colours from 0 to 9. Immutable, comparable, hashable.

    `numpy.asarray(grid)` is uint8 [rows, columns].

    Args:
        rows: nested lists, or an array of whole numbers.

    Raises:
        DataError: no grid; the message names row and column.
    """

    __slots__ = ("_cells",)

    def __init__(self, rows: Sequence[Sequence[int]] | NDArray[Any] | Grid) -> None:
        plain = rows.tolist() if isinstance(rows, np.ndarray | Grid) else [list(row) for row in rows]
        self._cells = read_grid(plain, "grid")
        self._cells.setflags(write=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self._cells.shape
        return rows, columns

    def tolist(self) -> list[list[int]]:
        """Return the grid as nested lists, as task files have it."""
        rows: list[list[int]] = self._cells.tolist()
        return rows

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._cells, dtype=dtype) if copy else np.asarray(self._cells, dtype=dtype)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.tolist())

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, place: tuple[int, int]) -> int:
        row, column = place
        return int(self._cells[row, column])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and np.array_equal(self._cells, other._cells)

    def __hash__(self) -> int:
        return hash((self._cells.shape, self._cells.tobytes()))

    def __repr__(self) -> str:
        return f"Grid({self.tolist()})"

    def _repr_svg_(self) -> str:
        """Draw the grid, for notebooks."""
        return panels_svg("", [("", self)])


@dataclass(frozen=True, slots=True)
class Pair:
    """A demonstration: an input grid and its output."""

    input: Grid
    """The grid that is given."""
    output: Grid
    """The grid that the rule makes of it."""


@dataclass(frozen=True, slots=True)
class Task:
    """An ARC task: demonstrations of a rule, and test inputs to answer by it."""

    task_id: str
    """Name of the task; for a file its name without `.json`."""
    demos: tuple[Pair, ...]
    """Demonstration pairs, in order."""
    tests: tuple[Grid, ...]
    """Test inputs, in order."""
    answers: tuple[Grid, ...] = ()
    """Right output of each test input, where they are known; they are for scoring, and no solver sees them."""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], task_id: str = "task") -> Task:
        """Read a task in the form of ARC's files: `{"train": [{"input": ..., "output": ...}], "test": [...]}`.

        Raises DataError that names pair, row and column.
        """
        return cls._read({**data} if isinstance(data, Mapping) else data, task_id, task_id)

    @classmethod
    def from_file(cls, path: str | Path) -> Task:
        """Read a task file, as ARC's repositories hold them. Raises DataError that names the file and the place."""
        return cls._read(load_json(Path(path)), Path(path).stem, str(path))

    @classmethod
    def _read(cls, data: Any, task_id: str, file: str) -> Task:
        read, answers = RawTask(file, task_id, data).read("tasks", held_out=True, check_demos=0)
        return cls(
            task_id,
            tuple(Pair(Grid(pair.input), Grid(pair.output)) for pair in read.demos),
            tuple(Grid(grid) for grid in read.tests),
            tuple(Grid(grid) for grid in answers),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the task in the form of ARC's files; answers, where known, are the outputs of the tests."""
        tests: list[dict[str, Any]] = [{"input": grid.tolist()} for grid in self.tests]
        for test, answer in zip(tests, self.answers, strict=False):
            test["output"] = answer.tolist()
        train = [{"input": pair.input.tolist(), "output": pair.output.tolist()} for pair in self.demos]
        return {"train": train, "test": tests}

    def _repr_svg_(self) -> str:
        """Draw demonstrations, test inputs and known answers, for notebooks."""
        rows = [[(f"demo {i} input", pair.input), ("output", pair.output)] for i, pair in enumerate(self.demos, 1)]
        for i, grid in enumerate(self.tests, 1):
            rows.append([(f"test {i} input", grid), *(("answer", answer) for answer in self.answers[i - 1 : i])])
        return panels_svg(f"task {self.task_id}", *rows)


def panels_svg(title: str, *rows: Sequence[tuple[str, Grid | None]]) -> str:
    """Return rows of labelled grids below a title, as one SVG; None is drawn as its label alone."""
    panels = (tuple(Panel(label, None if grid is None else np.asarray(grid)) for label, grid in row) for row in rows)
    return sheet_svg(Sheet(title, tuple(panels)))
