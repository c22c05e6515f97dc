"""Curves drawn with braille dots, two columns and four rows a character."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

from rich.text import Text

from gridloom.runtime.reports.curves import Curve, smoothed

COLOURS = ("cyan", "magenta", "yellow", "green", "red", "blue")
LETTERS = string.ascii_letters
"""Letters of several curves, at their ends and in the legend, where colours are not seen or come again."""
MARKS_A_ROW = 3
"""Curves that end in one row and have their letters there; further ones have them in the nearest row."""
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bit of the braille character (row, column)."""


def plot_lines(
    metric: str, curves: Sequence[Curve], width: int, height: int = 16, *, span: int = 1, log: bool = False
) -> list[Text]:
    """Return the lines of a plot: title, canvas with the axis of values, steps, and each curve with its last value.

    Args:
        width: columns of the whole, at least 40.
        span: number of values that each point is the mean of.
        log: whether the values' axis is logarithmic; values of 0 and below are left out then.
    """
    drawn = []
    for curve in curves:
        points = [*zip(curve.steps, smoothed(curve.values, span), strict=True)]
        kept = [(x, math.log10(y) if log else y) for x, y in points if math.isfinite(y) and (not log or y > 0)]
        drawn.append(kept)
    every = [point for points in drawn for point in points]
    if not every:
        return [Text(f"{metric}: no value can be drawn")]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    high = high if high > low else low + 1.0
    ends = [f"{10**value if log else value:.4g}" for value in (high, (high + low) / 2, low)]
    margin = max(map(len, ends))
    gutter = 1 + MARKS_A_ROW if len(curves) > 1 else 0
    columns = max(width - margin - 2 - gutter, 20)
    bits = [[0] * columns for _ in range(height)]
    owner = [[-1] * columns for _ in range(height)]

    def dot(x: float, y: float, number: int) -> None:
        across = round((x - left) / max(right - left, 1) * (2 * columns - 1))
        down = round((high - y) / (high - low) * (4 * height - 1))
        bits[down // 4][across // 2] |= _DOTS[down % 4][across % 2]
        owner[down // 4][across // 2] = number

    for number, points in enumerate(drawn):
        for (x, y), (to_x, to_y) in zip(points, points[1:] or points, strict=False):
            reach = max(
                abs(to_x - x) / max(right - left, 1) * 2 * columns, abs(to_y - y) / (high - low) * 4 * height, 1.0
            )
            for part in range(math.ceil(reach) + 1):
                share = min(part / reach, 1.0)
                dot(x + (to_x - x) * share, y + (to_y - y) * share, number)
    lines = [Text(metric if span == 1 else f"{metric}, mean of {span}", style="bold")]
    marks: dict[int, list[int]] = {}
    for number, points in enumerate(drawn if gutter else ()):
        if points:
            end = round((high - points[-1][1]) / (high - low) * (height - 1))
            free = [row for row in range(height) if len(marks.get(row, ())) < MARKS_A_ROW]
            if free and number < len(LETTERS):
                marks.setdefault(min(free, key=lambda row: abs(row - end)), []).append(number)
    labels = {0: ends[0], height // 2: ends[1], height - 1: ends[2]}
    for row in range(height):
        line = Text(f"{labels.get(row, ''):>{margin}} |", no_wrap=True)
        for cell, number in zip(bits[row], owner[row], strict=True):
            line.append(chr(0x2800 + cell) if cell else " ", style=COLOURS[number % len(COLOURS)] if cell else "")
        for place, number in enumerate(marks.get(row, ())):
            line.append(f"{'' if place else ' '}{LETTERS[number]}", style=COLOURS[number % len(COLOURS)])
        lines.append(line)
    first, last = f"{left:,}", f"{right:,}"
    lines.append(Text(f"{'':{margin}}  {first}{last:>{max(columns - len(first), 1)}}", no_wrap=True))
    for number, curve in enumerate(curves):
        mark = Text(
            f"{LETTERS[number]} --" if gutter and number < len(LETTERS) else "--", style=COLOURS[number % len(COLOURS)]
        )
        least = min(curve.values)
        lines.append(mark + Text(f" {curve.label}  last {curve.values[-1]:.4g}, least {least:.4g}", style="default"))
    return lines
