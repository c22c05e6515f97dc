"""Line charts as SVG: pure functions from series of points to markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gridloom.view.drawing.numbers import figure

WIDTH, HEIGHT = 420, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 24, 34
"""Margins around the plotted area."""
LEGEND_LINE = 14
"""Height of a line of the legend."""
COLOURS = ("#1f5fa8", "#b3400e", "#1c7a3c", "#7a3fa0", "#8a6d00", "#0b7a7a", "#a3175c", "#555555")
"""Colours of series, with a contrast of at least 4.5 on white. A page overrides them by the classes l0 (lines) and f0
(areas), and the colours of axes and texts too, so that a chart fits light and dark surroundings."""


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line of a chart, with an optional band."""

    name: str
    points: Sequence[tuple[float, float]]
    """(x, y) in the order in which they are joined; points with a value that is not finite are left out."""
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high) of an interval around the line."""
    dots: bool = False
    """Whether each point is marked."""


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str = "step",
    y_label: str = "",
    y_range: tuple[float, float] | None = None,
    log_y: bool = False,
) -> Markup:
    """Return a chart as an SVG element with a title that screen readers read; empty Markup without any finite point."""
    finite = [_finite(one, log_y) for one in series]
    values = [y for one in finite for _, y in one.points] + [y for one in finite for _, *ys in one.band for y in ys]
    xs = [x for one in finite for x, _ in one.points]
    if not xs:
        return Markup("")
    x_axis = _Axis.over(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    low, high = y_range or (min(values), max(values))
    y_axis = _Axis.over(low, high, HEIGHT - BOTTOM, TOP)
    parts = [*_axes(x_axis, y_axis, log_y, all(x == int(x) for x in xs))]
    for number, one in enumerate(finite):
        place = number % len(COLOURS)
        colour = COLOURS[place]
        if one.band:
            around = [(x, low) for x, low, _ in one.band] + [(x, high) for x, _, high in reversed(one.band)]
            places = " ".join(_place(x_axis, y_axis, x, y) for x, y in around)
            parts.append(
                f'<polygon class="f{place}" points="{places}" fill="{colour}" fill-opacity="0.15" stroke="none"/>'
            )
        places = " ".join(_place(x_axis, y_axis, x, y) for x, y in one.points)
        parts.append(
            f'<polyline class="l{place}" points="{places}" fill="none" stroke="{colour}" stroke-width="1.5" '
            'stroke-linejoin="round"/>'
        )
        if one.dots or len(one.points) == 1:
            for x, y in one.points:
                cx, cy = _place(x_axis, y_axis, x, y).split(",")
                parts.append(f'<circle class="f{place}" cx="{cx}" cy="{cy}" r="2.5" fill="{colour}" stroke="none"/>')
    legend, lines = _legend([one.name for one in finite]) if len(finite) > 1 else ("", 0)
    name = escape(_described(title, finite, x_label))
    return Markup(
        f'<svg class="chart" role="img" aria-label="{name}" viewBox="0 0 {WIDTH} {HEIGHT + LEGEND_LINE * lines}" '
        f'width="{WIDTH}" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="10" fill="#333">'
        f'<text class="title" x="{LEFT}" y="14" font-size="12" font-weight="600">{escape(title)}</text>'
        f"{''.join(parts)}"
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="12" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_label)}</text>'
        f"{legend}</svg>"
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    """Linear map of values to pixels."""

    low: float
    high: float
    first: float
    last: float
    only: float | None = None
    """The one value of all points: there is nothing else to mark."""

    @classmethod
    def over(cls, low: float, high: float, first: float, last: float) -> _Axis:
        if high - low <= abs(high) * 1e-12:
            pad = abs(high) * 0.1 or 1.0
            return cls(low - pad, low + pad, first, last, low)
        return cls(low, high, first, last)

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.first + share * (self.last - self.first)

    def ticks(self, most: int, least: float = 0.0) -> list[float]:
        """Return round values within the range, at most about `most`, and at least `least` apart."""
        if self.only is not None:
            return [self.only]
        rough = max((self.high - self.low) / most, least)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, first + most + 2) if step * n <= self.high + step * 1e-9]


def _finite(one: Series, log_y: bool) -> Series:
    def kept(y: float) -> float | None:
        if not math.isfinite(y) or (log_y and y <= 0):
            return None
        return math.log10(y) if log_y else y

    points = [(x, value) for x, y in one.points if math.isfinite(x) and (value := kept(y)) is not None]
    band = [
        (x, bottom, top)
        for x, low, high in one.band
        if math.isfinite(x) and (bottom := kept(low)) is not None and (top := kept(high)) is not None
    ]
    return Series(one.name, points, band, one.dots)


def _axes(x_axis: _Axis, y_axis: _Axis, log_y: bool, whole: bool) -> list[str]:
    floor = HEIGHT - BOTTOM
    parts = [
        f'<line class="axis" x1="{LEFT}" y1="{floor}" x2="{WIDTH - RIGHT}" y2="{floor}" stroke="#777"/>',
        f'<line class="axis" x1="{LEFT}" y1="{TOP}" x2="{LEFT}" y2="{floor}" stroke="#777"/>',
    ]
    xs, ys = x_axis.ticks(6, 1.0 if whole else 0.0), y_axis.ticks(5)
    for value, text in zip(xs, _labels(xs), strict=True):
        x = f"{x_axis.at(value):.1f}"
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 13}" text-anchor="middle">{text}</text>')
    labels = _labels([10**value for value in ys] if log_y else ys)
    size = ' font-size="8"' if max(map(len, labels), default=0) > 8 else ""  # many digits: else they leave the frame
    for value, text in zip(ys, labels, strict=True):
        y = y_axis.at(value)
        parts.append(f'<line class="rule" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 4}" y="{y + 3:.1f}" text-anchor="end"{size}>{text}</text>')
    return parts


def _labels(values: Sequence[float]) -> list[str]:
    """Return the values as texts that differ, of 3 digits or as many more as that takes."""
    near = max((abs(value) for value in values), default=0.0) * 1e-12
    for digits in range(3, 16):
        found = [_tick(0.0 if abs(value) <= near else value, digits) for value in values]
        if len({*found}) == len(found):
            break
    return found


def _tick(value: float, digits: int) -> str:
    if abs(value) >= 10_000:
        for unit, factor in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
            if abs(value) >= factor:
                short = f"{value / factor:.{digits}g}"
                return f"{value:.{digits}g}" if "e" in short else f"{short}{unit}"
    return figure(value, digits)


def _place(x_axis: _Axis, y_axis: _Axis, x: float, y: float) -> str:
    y = min(max(y, y_axis.low), y_axis.high)
    return f"{x_axis.at(x):.1f},{y_axis.at(y):.1f}"


def _legend(names: Sequence[str]) -> tuple[str, int]:
    """Return the legend below the chart, and the number of its lines."""
    parts, x, line = [], float(LEFT), 0
    for number, name in enumerate(names):
        short = name if len(name) <= 28 else name[:27] + "\u2026"
        width = 22 + 5.6 * len(short)
        if x + width > WIDTH and x > LEFT:
            x, line = float(LEFT), line + 1
        y = HEIGHT + 3 + LEGEND_LINE * line
        parts.append(
            f'<rect class="f{number % len(COLOURS)}" x="{x:.0f}" y="{y}" width="9" height="9" rx="2" '
            f'fill="{COLOURS[number % len(COLOURS)]}"/>'
        )
        parts.append(f'<text x="{x + 13:.0f}" y="{y + 8}">{escape(short)}</text>')
        x += width
    return "".join(parts), line + 1


def _described(title: str, series: Sequence[Series], x_label: str) -> str:
    """Return the chart in words: title, range of each line, last value."""
    lines = [
        f"{one.name}: {figure(one.points[0][1])} at {x_label} {figure(one.points[0][0])}, "
        f"{figure(one.points[-1][1])} at {x_label} {figure(one.points[-1][0])}"
        for one in series
        if one.points
    ]
    return f"Chart of {title}. " + "; ".join(lines)
