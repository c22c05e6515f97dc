"""Stage graph of a run or a plan as SVG: stages in columns by their distance from the data, edges from their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gridloom.wording import printable

BOX_W, BOX_H, GAP_X, GAP_Y, PAD = 170, 50, 46, 16, 12
FILLS = {
    "cached": "#e3e8f4",
    "done": "#dcefdc",
    "running": "#fff3cf",
    "run": "#fff3cf",
    "failed": "#f8d9d6",
    "interrupted": "#fbe5cf",
    "crashed": "#f8d9d6",
    "blocked": "#ececec",
    "not reached": "#ffffff",
}
"""Fill of a box by the state of its stage; the state is also written in the box."""


@dataclass(frozen=True, slots=True)
class StageBox:
    """Stage as it is drawn."""

    name: str
    kind: str
    state: str
    inputs: tuple[str, ...]
    """Names of the stages that it reads."""
    note: str = ""
    """Reason or time, below the state."""


def stage_graph_svg(title: str, stages: Sequence[StageBox]) -> Markup:
    """Return the graph as one SVG element, usable in a page and as a file of its own."""
    places = _places(stages)
    columns = max((column for column, _ in places.values()), default=0) + 1
    rows = max((row for _, row in places.values()), default=0) + 1
    width, height = 2 * PAD + columns * (BOX_W + GAP_X) - GAP_X, 2 * PAD + rows * (BOX_H + GAP_Y) - GAP_Y
    parts = []
    for stage in stages:
        x, y = _corner(places[stage.name])
        for name in dict.fromkeys(stage.inputs):
            if name not in places:
                continue
            x0, y0 = _corner(places[name])
            x0, y0, y1 = x0 + BOX_W, y0 + BOX_H // 2, y + BOX_H // 2
            bend = (x + x0) // 2
            parts.append(f'<path d="M{x0},{y0} C{bend},{y0} {bend},{y1} {x},{y1}" fill="none" stroke="#777"/>')
    for stage in stages:
        x, y = _corner(places[stage.name])
        fill = FILLS.get(stage.state, "#ffffff")
        state = f"{stage.kind}: {stage.state}"
        parts += [
            f"<g><title>{_text(f'{stage.name} ({state}) {stage.note}', 400)}</title>"
            f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="4" fill="{fill}" stroke="#555"/>',
            f'<text x="{x + 8}" y="{y + 16}" font-weight="bold">{_text(stage.name, 24)}</text>',
            f'<text x="{x + 8}" y="{y + 30}" font-size="10">{_text(state, 30)}</text>',
            f'<text x="{x + 8}" y="{y + 43}" font-size="10">{_text(stage.note, 30)}</text></g>',
        ]
    listed = "; ".join(f"{stage.name}, {stage.kind}, {stage.state}" for stage in stages)
    return Markup(
        f'<svg class="stages" role="img" aria-label="{_text(f"Stages of {title}: {listed}", 4000)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="sans-serif" font-size="12" fill="#222">{"".join(parts)}</svg>'
    )


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    column, row = place
    return PAD + column * (BOX_W + GAP_X), PAD + row * (BOX_H + GAP_Y)


def _places(stages: Sequence[StageBox]) -> Mapping[str, tuple[int, int]]:
    """Return (column, row) of each stage: the column after the last of its inputs, the first free row there."""
    places: dict[str, tuple[int, int]] = {}
    used: dict[int, int] = {}
    for stage in stages:  # in topological order
        column = max((places[name][0] + 1 for name in stage.inputs if name in places), default=0)
        row = used.get(column, 0)
        used[column] = row + 1
        places[stage.name] = column, row
    return places


def _text(text: str, most: int) -> str:
    short = printable(text)
    return str(escape(short if len(short) <= most else short[: most - 1] + "\u2026"))
