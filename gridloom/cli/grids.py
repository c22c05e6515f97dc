"""ARC grids for a terminal: each cell is its digit on its colour, so that they read without colour too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.table import Table
from rich.text import Text

from gridloom.runtime.data.colours import hex_of

# Black ink on the lighter colours, white on black, blue, magenta and maroon.
_DARK_INK = {2, 3, 4, 5, 7, 8}
STYLES = tuple(Style(color="#000000" if v in _DARK_INK else "#FFFFFF", bgcolor=hex_of(v)) for v in range(10))

GridLike = Sequence[Sequence[int]]


def grid_text(grid: GridLike | Any, marks: set[tuple[int, int]] | None = None) -> Text:
    """Draw one grid [rows, columns]; cells in `marks` are shown as `d!`: they differ from the grid beside."""
    text = Text(no_wrap=True)
    rows = [list(map(int, row)) for row in grid]
    if not rows or not rows[0]:
        return Text("(no grid)", style="dim")
    for i, row in enumerate(rows):
        if i:
            text.append("\n")
        for j, value in enumerate(row):
            text.append(f"{value}{'!' if marks and (i, j) in marks else ' '}", STYLES[value])
    return text


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Titled grids next to each other, wrapped into as many rows as the console's width asks for."""

    titled: Sequence[tuple[str, GridLike | Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        row: list[tuple[str, Text]] = []
        used = 0
        for title, grid in self.titled:
            drawn = grid_text(grid)
            needed = max([len(title), *(len(line) for line in drawn.plain.split("\n"))]) + 3
            if row and used + needed > options.max_width:
                yield _row(row)
                row, used = [], 0
            row.append((title, drawn))
            used += needed
        if row:
            yield _row(row)


def _row(row: Sequence[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for _ in row:
        table.add_column(vertical="top", no_wrap=True)
    if any(title for title, _ in row):
        table.add_row(*(Text(title, style="bold") for title, _ in row))
    table.add_row(*(drawn for _, drawn in row))
    return table


def differing_cells(a: GridLike, b: GridLike) -> list[tuple[int, int, int, int]]:
    """List (row, column, value in a, value in b) of the cells that differ; empty when the shapes differ."""
    if len(a) != len(b) or any(len(x) != len(y) for x, y in zip(a, b, strict=True)):
        return []
    return [
        (i, j, x, y)
        for i, (row_a, row_b) in enumerate(zip(a, b, strict=True))
        for j, (x, y) in enumerate(zip(row_a, row_b, strict=True))
        if x != y
    ]
