"""Grids as text: digits for the script that draws them, sizes and differences for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Grid = Sequence[Sequence[int]]


def grid_text(grid: Any) -> str:
    """Return a grid as its rows of digits joined by slashes, such as `012/345`; empty for no grid.

    Values above 9 are printed as letters from `a`, so that tokens of mazes and sudokus have one character too.
    """
    if grid is None or len(grid) == 0 or len(grid[0]) == 0:
        return ""
    rows = grid.tolist() if hasattr(grid, "tolist") else grid
    try:
        return b"/".join(bytes(row).translate(_BYTES) for row in rows).decode("ascii")
    except (TypeError, ValueError):
        pass  # values beyond a byte, which no grid of gridloom has
    return "/".join("".join(_DIGITS[min(int(value), 35)] for value in row) for row in grid)


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_BYTES = (_DIGITS + "z" * (256 - len(_DIGITS))).encode("ascii")
"""Digit of each value of a byte."""


def size_text(grid: Any) -> str:
    """Return rows x columns of a grid; `no grid` for none."""
    return f"{len(grid)}x{len(grid[0])}" if grid is not None and len(grid) and len(grid[0]) else "no grid"


def difference(a: Any, b: Any) -> str:
    """Return in words how two grids differ: not, in size, or in how many cells, with the first four of them."""
    if grid_text(a) == grid_text(b):
        return "equal"
    if size_text(a) != size_text(b):
        return f"{size_text(a)} -> {size_text(b)}"
    cells = [
        f"({i},{j}) {x} -> {y}"
        for i, (row, other) in enumerate(zip(a, b, strict=True), 1)
        for j, (x, y) in enumerate(zip(row, other, strict=True), 1)
        if x != y
    ]
    rest = ", ..." if len(cells) > 4 else ""
    return f"{len(cells)} of {len(a) * len(a[0])} cells differ: {', '.join(cells[:4])}{rest}"
