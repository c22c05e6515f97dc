"""Grid found at a place of a text, or refused there with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gridloom.runtime.data.files.grids import MAX_SIDE, GridRows

Writing = Literal["brackets", "tuples", "fenced", "rows", "row"]
"""Way in which a grid is written: nested `[[...]]`, nested tuples, lines in a fenced block, lines, one line alone."""
KEPT = MAX_SIDE + 1
"""Number of rows and of cells of a row that are kept; more are counted and refused."""


@dataclass(frozen=True, slots=True)
class FoundGrid:
    """Grid or refused grid, with its place in characters."""

    start: int
    end: int
    writing: Writing
    grid: GridRows
    """Rectangular, sides 1 to 30, colours 0-9; [] where the place holds no such grid."""
    refused: str = ""
    """Reason of the refusal; empty for a grid."""
    cut: bool = False
    """Whether the text ends before the grid does."""


def check_rows(rows: Sequence[Sequence[int]], num_rows: int, why: str = "") -> tuple[GridRows, str]:
    """Return the grid and "", or [] and the reason of the refusal.

    Args:
        rows: the first `KEPT` rows, each of its first `KEPT` cells.
        num_rows: number of all rows.
        why: reason that a cell or row was refused before; empty without one.
    """
    if why:
        return [], why
    widths = {len(row) for row in rows}
    if num_rows > MAX_SIDE or max(widths, default=0) > MAX_SIDE:
        return [], f"more than {MAX_SIDE} rows or columns"
    if len(widths) != 1 or widths == {0}:
        return [], "rows of different lengths"
    return [list(row) for row in rows], ""


def colour(number: str) -> tuple[int, str]:
    """Return the colour of a number and "", or 0 and the reason of the refusal; `5.0` and `5.` are the colour 5."""
    whole, _, fraction = number.partition(".")
    if whole.lstrip("+").isdigit() and not fraction.strip("0"):
        digits = whole.lstrip("+").lstrip("0") or "0"
        if len(digits) == 1:
            return int(digits), ""
    return 0, f"{number[:12]} is not a colour 0-9"
