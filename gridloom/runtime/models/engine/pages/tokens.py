"""Drawing of token rows as patches of images, on the device of the tokens.

A grid of c x c tokens is drawn with cells of floor(side / c) pixels, centred, in a fixed palette. A row of text is
drawn on pages of 28 x 12 characters: of a byte vocabulary its bytes, of a smaller one token t as the t-th printable
character, so that tokens have distinct shapes.
"""

from __future__ import annotations

import colorsys

import torch
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.models.engine.layout import PAGE_CHARACTERS, PAGE_COLUMNS, num_pages
from gridloom.runtime.models.engine.pages.glyphs import CELL_HEIGHT, CELL_WIDTH, FIRST, glyph_cells, glyph_of
from gridloom.runtime.models.engine.spec import EngineModel
from gridloom.runtime.models.kind import RowShape

ARC_COLOURS = (
    (0, 0, 0), (30, 147, 255), (249, 60, 49), (79, 204, 48), (255, 220, 0),
    (153, 153, 153), (229, 58, 163), (255, 133, 27), (135, 216, 241), (146, 18, 49),
)  # fmt: skip
"""RGB of the ten colours of ARC."""
BACKGROUND = (255, 255, 255)
PAD_COLOUR, END_COLOUR = (235, 235, 245), (110, 90, 60)
BYTES = 256
MARGIN = 10 / 224
"""Margin of a page, as a share of its side."""


def palette(vocabulary: int) -> Tensor:
    """Return fp32 [V + 1, 3] colours in [0, 1] of tokens, and of the background, last.

    Tokens 0 and 1 are PAD and EOS, 2-11 the colours of ARC; further tokens get hues at the golden angle.
    """
    colours = [tuple(part / 255 for part in rgb) for rgb in (PAD_COLOUR, END_COLOUR, *ARC_COLOURS)]
    for extra in range(max(0, vocabulary - len(colours))):
        colours.append(colorsys.hsv_to_rgb(extra * 0.6180339887 % 1, 0.45 + 0.1 * (extra % 3), 0.75))
    return torch.tensor([*colours[:vocabulary], tuple(part / 255 for part in BACKGROUND)])


class Drawing(nn.Module):
    """Map token rows to patches of images."""

    colours: Tensor
    """fp32 [V + 1, 3] of grids, or ink fp32 [V, 16 * 7] of text."""
    cell: Tensor
    """int64 [N, p * p], cell of each pixel, in the order of patches; the number of cells for the background."""
    dot: Tensor
    """int64 [N, p * p], pixel within a character's cell; of text alone."""

    def __init__(self, spec: EngineModel, rows: RowShape) -> None:
        """Raises ModelError for rows that cannot be drawn as the spec wants."""
        super().__init__()
        assert spec.vision is not None
        self.text = spec.vision.draw == "text"
        side, patch = spec.vision.image, spec.vision.patch
        self.pages = num_pages(spec, rows.cells)
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        if self.text:
            if BYTES > rows.vocabulary > len(glyph_cells()) - 1:
                raise ModelError(f"text of {rows.vocabulary} symbols cannot be drawn: at most 95, or 256 bytes")
            margin = round(side * MARGIN)
            scale = max(1, side // 224) if side >= 224 else 1
            across, down = (x - margin) // scale, (y - margin) // scale
            column, row = across // CELL_WIDTH, down // CELL_HEIGHT
            inside = (across >= 0) & (down >= 0) & (column < PAGE_COLUMNS) & (row < PAGE_CHARACTERS // PAGE_COLUMNS)
            if side < 224:
                raise ModelError(
                    f"text needs images of 224 pixels or more, not {side}", "write vision: {draw: text, image: 224}"
                )
            cell = torch.where(inside, row * PAGE_COLUMNS + column, PAGE_CHARACTERS)
            dot = torch.where(inside, down % CELL_HEIGHT * CELL_WIDTH + across % CELL_WIDTH, 0)
            offset = 0 if rows.vocabulary >= BYTES else FIRST
            glyphs = torch.from_numpy(glyph_cells()).flatten(1).float()
            colours = glyphs[torch.tensor([glyph_of(token + offset) for token in range(rows.vocabulary)])]
            colours[0] = 0.0  # PAD is blank
        else:
            canvas = rows.canvas
            if not canvas or canvas**2 != rows.cells:
                raise ModelError(
                    f"rows of {rows.cells} tokens in a line are no grid to draw", "write vision: {draw: text}"
                )
            if canvas > side:
                raise ModelError(f"a canvas of {canvas} needs images of {canvas} pixels or more, not {side}")
            size = side // canvas
            margin = (side - size * canvas) // 2
            row, column = (y - margin).div(size, rounding_mode="floor"), (x - margin).div(size, rounding_mode="floor")
            inside = (row >= 0) & (column >= 0) & (row < canvas) & (column < canvas)
            cell = torch.where(inside, row * canvas + column, rows.cells)
            dot = torch.zeros_like(cell)
            colours = palette(rows.vocabulary)
        self.register_buffer("colours", colours, persistent=False)
        self.register_buffer("cell", _in_patches(cell, patch), persistent=False)
        self.register_buffer("dot", _in_patches(dot, patch), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens [B, L] to patches fp32 [B, pages, N, 3 p p] in [0, 1]."""
        tokens = tokens.long()
        num_patches, pixels = self.cell.shape
        if not self.text:
            blank = tokens.new_full((len(tokens), 1), len(self.colours) - 1)
            shown = torch.cat((tokens, blank), dim=1)[:, self.cell.flatten()]
            drawn: Tensor = self.colours[shown].view(len(tokens), 1, num_patches, 3 * pixels)
            return drawn
        padded = torch.nn.functional.pad(tokens, (0, self.pages * PAGE_CHARACTERS - tokens.shape[1]))
        by_page = padded.view(len(tokens), self.pages, PAGE_CHARACTERS)
        by_page = torch.nn.functional.pad(by_page, (0, 1))  # the background shows PAD, which is blank
        ink = self.colours[by_page[:, :, self.cell.flatten()], self.dot.flatten()]
        paper = (1 - ink).view(len(tokens), self.pages, num_patches, pixels, 1)
        return paper.expand(-1, -1, -1, -1, 3).flatten(3)


def _in_patches(pixels: Tensor, patch: int) -> Tensor:
    """Return [side, side] as [N, p * p], patches and their pixels row by row."""
    count = len(pixels) // patch
    return pixels.view(count, patch, count, patch).transpose(1, 2).reshape(count * count, patch * patch)


def as_images(patches: Tensor) -> Tensor:
    """Return patches [.., N, 3 p p] as images [.., side, side, 3]."""
    count = round(patches.shape[-2] ** 0.5)
    patch = round((patches.shape[-1] // 3) ** 0.5)
    lead = patches.shape[:-2]
    grid = patches.view(*lead, count, count, patch, patch, 3)
    return grid.transpose(-4, -3).reshape(*lead, count * patch, count * patch, 3)
