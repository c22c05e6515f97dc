"""Tables of shares as SVG: the shade of a cell is the share, its text another value, an outline the chosen one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gridloom.view.drawing.charts import COLOURS

CELL_W, CELL_H, HEAD, SIDE = 76, 26, 20, 150
"""Width and height of a cell; height of the names of columns, width of those of rows."""


@dataclass(frozen=True, slots=True)
class HeatRow:
    """Row of a table: shares in [0, 1] with a text each."""

    name: str
    shares: Sequence[float]
    texts: Sequence[str]
    chosen: int | None
    """Column that is outlined."""


def heat_table(title: str, columns: Sequence[str], rows: Sequence[HeatRow]) -> Markup:
    """Return a table of shares as an SVG element that screen readers read; empty Markup without a row."""
    if not rows or not columns:
        return Markup("")
    width, height = SIDE + CELL_W * len(columns), HEAD + CELL_H * len(rows)
    parts = [
        f'<text x="{SIDE + CELL_W * (at + 0.5):.0f}" y="14" text-anchor="middle">{escape(name)}</text>'
        for at, name in enumerate(columns)
    ]
    for number, row in enumerate(rows):
        y = HEAD + CELL_H * number
        name = row.name if len(row.name) <= 26 else row.name[:25] + "\u2026"
        parts.append(f'<text x="{SIDE - 8}" y="{y + 17}" text-anchor="end">{escape(name)}</text>')
        for at, (share, text) in enumerate(zip(row.shares, row.texts, strict=True)):
            x, shade = SIDE + CELL_W * at, min(max(share, 0.0), 1.0) * 0.85
            ink = ' class="on"' if shade > 0.5 else ""
            fill = "#ffffff" if shade > 0.5 else "#333333"
            parts += [
                f'<rect class="f0" x="{x + 1}" y="{y + 1}" width="{CELL_W - 2}" height="{CELL_H - 2}" rx="3" '
                f'fill="{COLOURS[0]}" fill-opacity="{shade + 0.03:.3f}"/>',
                f'<text{ink} x="{x + CELL_W / 2:.0f}" y="{y + 17}" text-anchor="middle" fill="{fill}">'
                f"{escape(text)}</text>",
            ]
            if row.chosen == at:
                parts.append(
                    f'<rect class="chosen" x="{x + 1}" y="{y + 1}" width="{CELL_W - 2}" height="{CELL_H - 2}" rx="3" '
                    f'fill="none" stroke="{COLOURS[1]}" stroke-width="2"/>'
                )
    described = "; ".join(
        f"{row.name}: " + ", ".join(f"{name} {share:.2f}" for name, share in zip(columns, row.shares, strict=True))
        for row in rows[:24]
    )
    return Markup(
        f'<svg class="chart heat" role="img" aria-label="{escape(f"{title}. {described}")}" '
        f'viewBox="0 0 {width} {height}" width="{width}" xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
        f'font-size="11" fill="#333">{"".join(parts)}</svg>'
    )
