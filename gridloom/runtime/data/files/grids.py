"""Validation of grids cell by cell; errors name file, task, pair, row and column."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridloom.errors import DataError
from gridloom.runtime.data.tasks import Grid

MAX_SIDE = 30
"""Largest number of rows and columns of an ARC grid."""
_OR_LEAVE_OUT = "; in a spec, select.max_side leaves the task out"
NUM_COLOURS = 10
_ZERO = np.uint8(ord("0"))


@dataclass(frozen=True, slots=True)
class GridLocation:
    """Location of a grid in its file; pairs, rows and columns count from 1 in messages."""

    file: str
    task_id: str
    section: str
    """`train` or `test`."""
    index: int
    side: str
    """`input` or `output`."""

    def __str__(self) -> str:
        return f"{self.file}: task {self.task_id!r}, {self.section} pair {self.index + 1}, {self.side}"


def rows(grid: Grid | None) -> GridRows:
    """Return a grid as nested lists; [] for None."""
    return [] if grid is None else [[int(cell) for cell in row] for row in grid]


class PackedGrid:
    """Grid as compact JSON text without its outer brackets, `0,7],[7,7`; decoded on demand."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns), valid for text that `decode` accepts."""
        end = self.text.find(b"]")
        columns = ((len(self.text) if end < 0 else end) + 1) // 2
        return (len(self.text) + 3) // (2 * columns + 2), columns

    def decode(self) -> Grid | None:
        """Return the grid, or None unless the text is rows of equal length with one digit per cell."""
        rows, columns = self.shape
        # every other byte is a cell or the comma between rows; the bytes between are commas and brackets
        cells, marks = self.text[0::2], self.text[1::2]
        if columns < 1 or marks != ((b"," * (columns - 1) + b"][") * rows)[:-2]:
            return None
        digits = cells.translate(None, b",")
        if cells[columns :: columns + 1] != b"," * (rows - 1) or len(digits) != rows * columns or not digits.isdigit():
            return None
        return (np.frombuffer(digits, dtype=np.uint8) - _ZERO).reshape(rows, columns)


class GridTooLarge(DataError):
    """A grid with more rows or columns than ARC has; `size` is its size in words."""

    def __init__(self, message: str, remedy: str, size: str) -> None:
        super().__init__(message, remedy)
        self.size = size


def claimed_side(value: Any) -> int:
    """Return the largest side of a grid that is not checked yet; 0 for what is no list."""
    rows = value if isinstance(value, list) else ()
    return max(len(rows), max((len(row) for row in rows if isinstance(row, list)), default=0))


def read_grid(value: Any, place: GridLocation | str) -> Grid:
    """Return `value` as uint8 [rows, columns]. Raises DataError naming the row and the column of an invalid cell."""
    if isinstance(value, PackedGrid):
        grid = value.decode()
        if grid is not None and max(grid.shape) <= MAX_SIDE:
            return grid
        try:
            value = json.loads(b"[[" + value.text + b"]]")
        except ValueError:
            raise DataError(f"{place}: not a grid", "write it as [[0, 1], [2, 3]]") from None
    if not isinstance(value, list):
        raise DataError(
            f"{place}: a grid must be a list of rows, this is {_kind(value)}", "write it as [[0, 1], [2, 3]]"
        )
    if not value:
        raise DataError(f"{place}: 0 rows", f"a grid has 1 to {MAX_SIDE} rows; correct or remove the pair")
    if len(value) > MAX_SIDE:
        size = f"{len(value):,} rows"
        raise GridTooLarge(
            f"{place}: {size}",
            f"a grid has 1 to {MAX_SIDE} rows; correct or remove the pair{_OR_LEAVE_OUT}",
            size,
        )
    for number, row in enumerate(value, start=1):
        if not isinstance(row, list):
            raise DataError(f"{place}, row {number}: not a list but {_kind(row)}", "a row is a list of colours 0-9")
        if len(row) > MAX_SIDE:
            size = f"{len(row):,} columns"
            raise GridTooLarge(
                f"{place}, row {number}: {size}",
                f"a row has 1 to {MAX_SIDE} cells; correct or remove the pair{_OR_LEAVE_OUT}",
                size,
            )
        if not row:
            raise DataError(
                f"{place}, row {number}: 0 columns", f"a row has 1 to {MAX_SIDE} cells; correct or remove the pair"
            )
        if len(row) != len(value[0]):
            raise DataError(
                f"{place}, row {number}: {len(row)} cells, but row 1 has {len(value[0])}",
                "all rows of a grid have the same length",
            )
        for column, cell in enumerate(row, start=1):
            if type(cell) is not int or not 0 <= cell <= 9:
                raise DataError(
                    f"{place}, row {number}, column {column}: {_shown(cell)} is not a colour",
                    "a cell is a whole number from 0 to 9",
                )
    return np.array(value, dtype=np.uint8)


def _kind(value: Any) -> str:
    names = {dict: "an object", str: "text", bool: "true/false", int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 20 else text[:17] + "..."


GridRows = list[list[int]]
"""Grid as nested lists of colours 0-9; [] for no grid."""
