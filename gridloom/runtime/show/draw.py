"""Renderers of sheets of grids: terminal text, SVG, PNG. Pure functions from data to text or bytes."""

from __future__ import annotations

import html
import re
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.show.look import Panel, Sheet
from gridloom.wording import printable

_CELL = 12
_GAP = 16
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML document may hold, not even escaped."""
_BACKGROUND = 10
"""Palette index of the PNG background; 11 is the index of the lines between cells."""


def escaped(text: str) -> str:
    """Return text for SVG and HTML: markup in it is shown, never read, and what XML forbids is a replacement mark."""
    return html.escape(printable(_NOT_XML.sub("\ufffd", text), lines=True))


def sheet_text(sheet: Sheet) -> Text:
    """Return the sheet as terminal text: two columns per cell, labels above, panels of a row side by side."""
    text = Text(f"{printable(sheet.title)}\n", style="bold")
    for row in sheet.rows:
        widths = [max(2 * panel.grid.shape[1] if panel.grid is not None else 0, len(_label(panel))) for panel in row]
        text.append("\n")
        text.append("   ".join(_label(p).ljust(w) for p, w in zip(row, widths, strict=True)).rstrip() + "\n", "dim")
        for line in range(max((panel.grid.shape[0] for panel in row if panel.grid is not None), default=0)):
            for number, (panel, width) in enumerate(zip(row, widths, strict=True)):
                text.append("   " if number else "")
                _append_line(text, panel, line, width)
            text.append("\n")
    return text


def _append_line(text: Text, panel: Panel, line: int, width: int) -> None:
    grid = panel.grid
    if grid is None or line >= grid.shape[0]:
        text.append(" " * width)
        return
    for colour in grid[line].tolist():
        # the digit keeps the grid readable without colours
        ink = "#ffffff" if sum(PALETTE[colour]) < 330 else "#000000"
        text.append(f"{panel.glyphs[colour]} ", f"{ink} on {hex_of(colour)}")
    text.append(" " * (width - 2 * grid.shape[1]))


def _label(panel: Panel) -> str:
    label = printable(panel.label)
    if panel.grid is None:
        return label
    return f"{label} {panel.grid.shape[0]}x{panel.grid.shape[1]}"


def sheet_svg(sheet: Sheet) -> str:
    """Return the sheet as a standalone SVG document."""
    parts, top, right = [], 30, 0
    for row in sheet.rows:
        left, tallest = _GAP, 0
        for panel in row:
            rows, columns = panel.grid.shape if panel.grid is not None else (1, 1)
            parts.append(f'<text x="{left}" y="{top + 10}" font-size="10">{escaped(_label(panel))}</text>')
            if panel.grid is not None:
                for r, line in enumerate(panel.grid.tolist()):
                    for c, colour in enumerate(line):
                        place = f'x="{left + c * _CELL}" y="{top + 16 + r * _CELL}"'
                        parts.append(f'<rect {place} width="{_CELL}" height="{_CELL}" fill="{hex_of(colour)}"/>')
            left += max(columns * _CELL, 8 * len(_label(panel))) + _GAP
            tallest = max(tallest, rows * _CELL)
        right = max(right, left, 8 * len(sheet.title) + 2 * _GAP)
        top += tallest + 16 + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{top}" font-family="monospace" '
        f'stroke="#555555" stroke-width="0.5"><rect width="100%" height="100%" fill="#ffffff" stroke="none"/>'
        f'<g stroke="none" fill="#000000"><text x="{_GAP}" y="20" font-size="14">{escaped(sheet.title)}</text></g>'
    )
    body = "".join(part.replace("<text ", '<text stroke="none" ') for part in parts)
    return f"{head}{body}</svg>\n"


def sheet_png(sheet: Sheet, cell: int = _CELL) -> bytes:
    """Return the sheet as PNG: grids without labels, `cell` pixels per cell, lines between cells."""
    bands = [_band([panel.grid for panel in row if panel.grid is not None], cell) for row in sheet.rows]
    width = max((band.shape[1] for band in bands), default=1)
    padded = [np.pad(band, ((0, 0), (0, width - band.shape[1])), constant_values=_BACKGROUND) for band in bands]
    image = np.concatenate(padded) if padded else np.full((1, 1), _BACKGROUND, dtype=np.uint8)
    return png_of(image)


def _band(grids: list[Grid], cell: int) -> NDArray[np.uint8]:
    """Return the grids of one row side by side with margins: uint8 [height, width] of palette indices."""
    height = max((grid.shape[0] for grid in grids), default=0) * (cell + 1) + 1 + _GAP
    drawn = [np.full((height, _GAP // 2), _BACKGROUND, dtype=np.uint8)]
    for grid in grids:
        rows, columns = grid.shape
        picture = np.full((rows * (cell + 1) + 1, columns * (cell + 1) + 1), _BACKGROUND + 1, dtype=np.uint8)
        for r, line in enumerate(grid.tolist()):
            for c, colour in enumerate(line):
                y, x = r * (cell + 1) + 1, c * (cell + 1) + 1
                picture[y : y + cell, x : x + cell] = colour
        below = height - _GAP // 2 - picture.shape[0]
        drawn.append(np.pad(picture, ((_GAP // 2, below), (0, _GAP)), constant_values=_BACKGROUND))
    return np.concatenate(drawn, axis=1)


def png_of(image: NDArray[np.uint8]) -> bytes:
    """Encode uint8 [height, width] of palette indices (0-9 ARC colours, 10 white, 11 grey) as an indexed PNG."""
    height, width = image.shape
    palette = b"".join(bytes(rgb) for rgb in (*PALETTE, (255, 255, 255), (85, 85, 85)))
    # each line starts with its filter type, 0 for none
    lines = np.pad(image, ((0, 0), (1, 0))).tobytes()
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    encoded = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + encoded


PALETTE = (
    (0x00, 0x00, 0x00),
    (0x00, 0x74, 0xD9),
    (0xFF, 0x41, 0x36),
    (0x2E, 0xCC, 0x40),
    (0xFF, 0xDC, 0x00),
    (0xAA, 0xAA, 0xAA),
    (0xF0, 0x12, 0xBE),
    (0xFF, 0x85, 0x1B),
    (0x7F, 0xDB, 0xFF),
    (0x87, 0x0C, 0x25),
)
"""Red, green and blue of colours 0 to 9."""


def hex_of(colour: int) -> str:
    """Return the hexadecimal RGB of a colour: `#0074d9` for 1."""
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[colour])
