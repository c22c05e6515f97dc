"""Stage graph of a run or a plan as SVG: stages in columns by their distance from the data, edges from their inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from gridloom.wording import printable

BOX_W, BOX_H, GAP_X, GAP_Y, PAD = 176, 56, 46, 14, 4
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


Place = tuple[int, int]
"""(column, row) of a box."""


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
    """Return the graph as one SVG element, usable in a page and as a file of its own.

    A page overrides the colours by the class of a group, which is the state of its stage.
    """
    places, lanes = _places(stages)
    taken = [*places.values(), *((column, row) for (_, column), row in lanes.items())]
    columns = max((column for column, _ in taken), default=0) + 1
    rows = max((row for _, row in taken), default=0) + 1
    width, height = 2 * PAD + columns * (BOX_W + GAP_X) - GAP_X, 2 * PAD + rows * (BOX_H + GAP_Y) - GAP_Y
    parts = []
    for stage in stages:
        for name in dict.fromkeys(stage.inputs):
            if name in places:
                line = _edge(name, places[name], places[stage.name], lanes)
                parts.append(f'<path d="{line}" fill="none" stroke="#8a929c" stroke-width="1.5"/>')
    for stage in stages:
        x, y = _corner(places[stage.name])
        fill = FILLS.get(stage.state, "#ffffff")
        state = f"{stage.kind}: {stage.state}"
        css = stage.state if stage.state in FILLS else "other"
        parts += [
            f'<g class="{css.replace(" ", "-")}"><title>{_text(f"{stage.name} ({state}) {stage.note}", 400)}</title>',
            f'<rect x="{x}" y="{y}" width="{BOX_W}" height="{BOX_H}" rx="6" fill="{fill}" stroke="#8a929c"/>',
            f'<text x="{x + 10}" y="{y + 18}" font-weight="600">{_text(stage.name, 24)}</text>',
            f'<text class="small" x="{x + 10}" y="{y + 33}" font-size="10.5">{_text(state, 30)}</text>',
            f'<text class="small" x="{x + 10}" y="{y + 47}" font-size="10.5">{_text(stage.note, 30)}</text></g>',
        ]
    listed = "; ".join(f"{stage.name}, {stage.kind}, {stage.state}" for stage in stages)
    return Markup(
        f'<svg class="stages" role="img" aria-label="{_text(f"Stages of {title}: {listed}", 4000)}" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="sans-serif" font-size="12.5" fill="#222">{"".join(parts)}</svg>'
    )


def _corner(place: Place) -> tuple[int, int]:
    column, row = place
    return PAD + column * (BOX_W + GAP_X), PAD + row * (BOX_H + GAP_Y)


def _edge(source: str, start: Place, end: Place, lanes: Mapping[tuple[str, int], int]) -> str:
    """Return the path of an edge: curves in the gaps between columns, straight along the lane of each column."""
    x, y = _corner(start)
    x, y = x + BOX_W, y + BOX_H // 2
    parts = [f"M{x},{y}"]
    for column in range(start[0] + 1, end[0] + 1):
        to_x, to_y = _corner((column, lanes[source, column])) if column < end[0] else _corner(end)
        to_y += BOX_H // 2
        bend = (x + to_x) // 2
        parts.append(f"C{bend},{y} {bend},{to_y} {to_x},{to_y}")
        x, y = to_x, to_y
        if column < end[0]:
            x += BOX_W
            parts.append(f"H{x}")
    return " ".join(parts)


def _places(stages: Sequence[StageBox]) -> tuple[dict[str, Place], dict[tuple[str, int], int]]:
    """Return the place of each stage: the column after the last of its inputs, the first free row there.

    And the row of each lane by (source, column), kept free of stages for edges that pass a column.
    """
    columns: dict[str, int] = {}
    for stage in stages:  # in topological order
        columns[stage.name] = max((columns[name] + 1 for name in stage.inputs if name in columns), default=0)
    used = dict.fromkeys(columns.values(), 0)
    places: dict[str, Place] = {}
    for stage in stages:
        column = columns[stage.name]
        places[stage.name] = column, used[column]
        used[column] += 1
    lanes: dict[tuple[str, int], int] = {}
    for stage in stages:
        for name in stage.inputs:
            for column in range(columns.get(name, 0) + 1, columns[stage.name] if name in columns else 0):
                if (name, column) not in lanes:
                    lanes[name, column] = used[column]
                    used[column] += 1
    return places, lanes


def _text(text: str, most: int) -> str:
    short = printable(text)
    return str(escape(short if len(short) <= most else short[: most - 1] + "\u2026"))
