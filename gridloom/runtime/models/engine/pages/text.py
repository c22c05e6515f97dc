"""Text renderer: text as pages of 224 x 224 pixels, 28 columns by 12 rows, with a box of every character.

No font file is read, so that a text gives the same bytes on every machine. Characters without a pattern are drawn as
one box, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.models.engine.layout import PAGE_CHARACTERS, PAGE_COLUMNS, PAGE_ROWS
from gridloom.runtime.models.engine.pages.glyphs import CELL_HEIGHT, CELL_WIDTH, FIRST, LAST, glyph_cells, glyph_of

SIDE, PADDING = 224, 10
"""Pixels of a page's side, and of its margin at the left and the top."""
INK, PAPER = 0, 255


@dataclass(frozen=True, slots=True)
class Pages:
    """Drawn text."""

    images: NDArray[np.uint8]
    """uint8 [n, 224, 224, 3]; at least one page."""
    boxes: NDArray[np.int32]
    """int32 [characters drawn, 6]: index in the text, page, top, left, bottom, right in pixels."""
    missing: dict[str, int] = field(default_factory=dict)
    """Number of each character that has no pattern and is drawn as a box."""

    @property
    def num_drawn(self) -> int:
        """Number of characters on the pages, blanks included; line breaks are not drawn."""
        return len(self.boxes)


def capacity() -> int:
    """Return the number of characters of a full page."""
    return PAGE_CHARACTERS


def render(text: str, *, wrap: bool = True) -> Pages:
    """Draw a text on as many pages as it needs; none of it is lost.

    Args:
        wrap: break lines at blanks where a word would cross the margin; else after every 28th character.
    """
    cells = glyph_cells()
    placed = list(_places(text, wrap))
    count = 1 + max((row // PAGE_ROWS for _, row, _ in placed), default=0)
    images = np.full((count, SIDE, SIDE, 3), PAPER, dtype=np.uint8)
    boxes = np.zeros((len(placed), 6), dtype=np.int32)
    missing: Counter[str] = Counter()
    for number, (index, row, column) in enumerate(placed):
        page, line = divmod(row, PAGE_ROWS)
        top, left = PADDING + line * CELL_HEIGHT, PADDING + column * CELL_WIDTH
        code = ord(text[index])
        if not FIRST <= code <= LAST:
            missing[text[index]] += 1
        images[page, top : top + CELL_HEIGHT, left : left + CELL_WIDTH][cells[glyph_of(code)]] = INK
        boxes[number] = index, page, top, left, top + CELL_HEIGHT, left + CELL_WIDTH
    return Pages(images, boxes, dict(missing))


def _places(text: str, wrap: bool) -> Iterator[tuple[int, int, int]]:
    """Yield (index in the text, row over all pages, column) of each character but line breaks."""
    row, column = 0, 0
    index = 0
    while index < len(text):
        char = text[index]
        if char == "\n":
            row, column = row + 1, 0
            index += 1
            continue
        end = index + 1
        if wrap and not char.isspace():
            while end < len(text) and not text[end].isspace():
                end += 1
            if column and column + end - index > PAGE_COLUMNS and end - index <= PAGE_COLUMNS:
                row, column = row + 1, 0
        for at in range(index, end):
            if column == PAGE_COLUMNS:
                row, column = row + 1, 0
            yield at, row, column
            column += 1
        index = end
