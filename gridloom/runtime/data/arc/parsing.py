"""Parser of the grid in a language model's text."""

from __future__ import annotations

import re

from gridloom.runtime.data.files.grids import GridRows

_ROW = re.compile(r"^\s*\[*\s*[0-9](?:[\s,]*[0-9])*\s*\]*,?\s*$")
"""Line of single digits, separated or not, with optional commas and brackets."""


def parse_grid(text: str) -> GridRows | None:
    """Return the last rectangular block of digit lines, sides 1 to 30; None if there is none.

    A block is a run of consecutive lines of digits. Blocks whose lines differ in length are not grids.
    """
    blocks: list[GridRows] = [[]]
    for line in text.splitlines():
        if _ROW.match(line):
            blocks[-1].append([int(digit) for digit in re.findall(r"[0-9]", line)])
        elif blocks[-1]:
            blocks.append([])
    for block in reversed(blocks):
        if block and len({len(row) for row in block}) == 1 and len(block) <= 30 and len(block[0]) <= 30:
            return block
    return None
