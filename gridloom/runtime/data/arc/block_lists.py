"""Grids that a text writes as a YAML block sequence of sequences: a dash a cell, and one more where a row begins.

- - 0
  - 5
- - 5
  - 0
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gridloom.runtime.data.arc.found_grid import KEPT, FoundGrid, check_rows, colour

LINE = re.compile(r"[^\r\n]*")
ITEM = re.compile(r"([ \t]*)(-[ \t]+)?-[ \t]+([0-9]+(?:\.[0-9]*)?)[ \t]*")
"""Cell of a row; the second dash begins a row."""
DASH = re.compile(r"[ \t]*-[ \t]*")
"""Dash alone on its line, below which the cells of a row stand."""


def find(text: str) -> list[FoundGrid]:
    """Return the grids of block sequences, in order; a list of one level is none. Time is linear in the text."""
    return [found for block in _blocks(text) if (found := _found(block)) is not None]


def _blocks(text: str) -> Iterator[list[re.Match[str]]]:
    """Yield runs of consecutive lines that are items or lone dashes."""
    block: list[re.Match[str]] = []
    for line in LINE.finditer(text):
        if not line.group() and line.start() and text[line.start() - 1] not in "\r\n":
            continue  # the empty match at the end of a line
        found = ITEM.fullmatch(text, *line.span()) or DASH.fullmatch(text, *line.span())
        if found is not None:
            block.append(found)
        elif block and line.group().strip():
            yield block
            block = []
    if block:
        yield block


def _found(block: list[re.Match[str]]) -> FoundGrid | None:
    # items of a list of one level may stand before the grid
    first = next((at for at, item in enumerate(block) if item.re is DASH or item.group(2) is not None), len(block))
    block = block[first:]
    if not any(item.re is ITEM for item in block):
        return None
    rows: list[list[int]] = []
    num_rows, indent, why = 0, -1, ""
    for item in block:
        if item.re is DASH:
            num_rows, indent = num_rows + 1, -1
            rows += [[]] if len(rows) < KEPT else []
            continue
        before, second, number = item.group(1), item.group(2), item.group(3)
        if second is not None:
            num_rows += 1
            rows += [[]] if len(rows) < KEPT else []
            indent = len(before) + len(second)
        elif indent < 0:
            indent = len(before)
        elif len(before) != indent:
            why = why or "cells of a row at different indents"
        value, refused = colour(number)
        why = why or refused
        if num_rows <= KEPT and len(rows[-1]) < KEPT:
            rows[-1].append(value)
    grid, refused = check_rows(rows, num_rows, why)
    return FoundGrid(block[0].start(), block[-1].end(), "brackets", grid, refused)
