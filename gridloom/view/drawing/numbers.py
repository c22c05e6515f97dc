"""Numbers as people read them."""

from __future__ import annotations


def figure(value: float | int | None, digits: int = 4) -> str:
    """Return a number with `digits` significant digits, whole numbers with separators; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value != value or value in (float("inf"), float("-inf")):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.{digits}g}"
