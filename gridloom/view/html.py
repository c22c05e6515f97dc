"""Rendering of templates: every value is escaped for HTML, and what acts on a terminal or a page is shown as text."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from gridloom.view.drawing import grids
from gridloom.view.drawing.numbers import figure
from gridloom.wording import counted, duration, printable

FOLDER = Path(__file__).parent
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold."""


def render(template: str, **values: Any) -> str:
    """Return a template filled with values. Text is escaped; only Markup made by this package is inserted as it is."""
    return environment().get_template(template).render(values)


@functools.cache
def environment() -> Environment:
    """Return the template environment: autoescaped, undefined names are errors."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "figure": figure,
        "percent": percent,
        "time": time_text,
        "duration": duration_text,
        "bytes": bytes_text,
        "json": json_text,
        "grid": grids.grid_text,
        "size": grids.size_text,
        "cell": cell_text,
        "prose": prose,
        "counted": counted,
    }
    made.globals |= {"link": link, "grid": grid_figure, "state": state, "judged": judged}
    return made


def shown(value: Any) -> Any:
    """Return what a template prints for a value: Markup unchanged, None as a dash, text without active characters."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return "-"
    return clean(str(value))


def clean(text: str) -> str:
    """Return text for a page: what acts on a terminal or a page becomes an escape; newlines and tabs are kept."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_XML.sub("\ufffd", printable(text, lines=True))


def grid_figure(
    cells: Any,
    label: str,
    against: Any = None,
    small: bool = False,
    given: Any = None,
    marks: Iterable[int] | None = None,
    box: str = "",
) -> Markup:
    """Return a grid as a figure, which the viewer's script draws; made here since a page may have hundreds.

    Args:
        against: grid whose unlike cells are marked, where it has the same size.
        given: grid of the clues; other digits have another colour.
        marks: numbers of cells that are marked.
        box: rows and columns of a sudoku's boxes, such as `2 2`.
    """
    name, text = escape(clean(label)), grids.grid_text(cells)
    start = f'<figure class="grid{" small" if small else ""}">'
    if not text:
        return Markup(f'{start}<div class="none">no grid</div><figcaption>{name}</figcaption></figure>')
    size = grids.size_text(cells)
    attributes = f'data-grid="{text}"'
    if against is not None and grids.size_text(against) == size:
        attributes += f' data-against="{grids.grid_text(against)}"'
    if given is not None:
        attributes += f' data-given="{grids.grid_text(given)}"'
    if marks:
        attributes += f' data-marks="{" ".join(map(str, marks))}"'
    if box:
        attributes += f' data-box="{escape(box)}"'
    return Markup(
        f'{start}<canvas {attributes} role="img" aria-label="{name}, {size}: {text}"></canvas>'
        f"<figcaption>{name} <span>{size}</span></figcaption></figure>"
    )


def state(text: str) -> Markup:
    """Return a state as a coloured word."""
    word = escape(clean(text))
    return Markup(f'<span class="state {word.replace(" ", "-")}">{word}</span>')


def judged(verdict: str, score: float | None, solved: bool | None) -> Markup:
    """Return an attempt's verdict, its score and, where it was scored, whether it is right."""
    parts = [state(verdict)]
    if score is not None:
        parts.append(Markup(f" {score:.2f}"))
    if solved is not None:
        parts += [Markup(" "), state("right" if solved else "wrong")]
    return Markup("").join(parts)


def prose(text: str) -> Markup:
    """Return text as HTML whose parts between backticks are code."""
    parts = [
        Markup("<code>{}</code>").format(clean(part)) if place % 2 else escape(clean(part))
        for place, part in enumerate(text.split("`"))
    ]
    return Markup("").join(parts)


def link(page: str, **query: Any) -> str:
    """Return the address of a page of the viewer. Names from the ledger are parameters, never parts of a path."""
    kept = {name: value for name, value in query.items() if value not in (None, "")}
    return f"/{page}" + (f"?{urlencode(kept, doseq=True, errors='replace')}" if kept else "")


def percent(value: float | None) -> str:
    """Return a share in percent with one decimal."""
    return "-" if value is None else f"{100 * value:.1f}%"


def time_text(value: Any) -> str:
    """Return a time in UTC to the second."""
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, UTC) if value == value else None
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value or "-")


def duration_text(seconds: float | None) -> str:
    """Return a duration: milliseconds below 1 s, tenths below 10 s, then as everywhere in gridloom."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def bytes_text(value: float | None) -> str:
    """Return a number of bytes in decimal units."""
    if value is None:
        return "-"
    units = ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def json_text(value: Any) -> str:
    """Return a value, or a JSON column, as indented JSON; text that is no JSON unchanged."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return str(value)
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


def cell_text(value: Any) -> str:
    """Return a value of a query's result as one cell of a table, at most 2,000 characters."""
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return figure(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    text = json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, Mapping | list) else str(value)
    return text if len(text) <= 2000 else f"{text[:2000]}... ({len(text):,} characters)"
