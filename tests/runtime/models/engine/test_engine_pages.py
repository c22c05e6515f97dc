"""Drawing: glyphs, pages of text, and token rows as images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_support import spec_of

from gridloom.errors import ModelError
from gridloom.runtime.models.engine.pages.glyphs import glyph_cells
from gridloom.runtime.models.engine.pages.text import PADDING, SIDE, capacity, render
from gridloom.runtime.models.engine.pages.tokens import Drawing, as_images, palette
from gridloom.runtime.models.kind import RowShape


def test_every_printable_character_has_a_shape_of_its_own() -> None:
    cells = glyph_cells()
    assert len({cell.tobytes() for cell in cells}) == len(cells) == 96
    assert not cells[0].any(), "the blank"


def test_long_text_fills_pages_and_loses_no_character() -> None:
    text = "".join(chr(33 + i % 94) for i in range(2000))
    pages = render(text, wrap=False)
    assert len(pages.images) == -(-2000 // capacity()) == 6
    assert pages.num_drawn == 2000
    assert pages.images.shape[1:] == (SIDE, SIDE, 3)
    again = render(text, wrap=False)
    assert pages.images.tobytes() == again.images.tobytes()
    assert not pages.missing


def test_the_characters_can_be_read_back_from_the_page() -> None:
    text = "def f(x):\n    return x + 1  # {ok}"
    pages = render(text)
    cells = glyph_cells()
    read = {}
    for index, page, top, left, bottom, right in pages.boxes.tolist():
        ink = pages.images[page, top:bottom, left:right, 0] == 0
        read[index] = chr(32 + int(np.argmin([(ink ^ cell).sum() for cell in cells[:-1]])))
    assert "".join(read.get(i, "\n") for i in range(len(text))) == text


def test_lines_break_at_blanks_and_empty_lines_are_kept() -> None:
    pages = render("a" * 20 + " " + "b" * 20 + "\n\nc")
    rows = (pages.boxes[:, 2] - PADDING) // 16
    assert rows[:20].tolist() == [0] * 20
    assert rows[21:41].tolist() == [1] * 20
    assert rows[41] == 3


def test_characters_without_a_pattern_are_counted() -> None:
    pages = render("a漢字漢")
    assert pages.missing == {"漢": 2, "字": 1}
    assert pages.num_drawn == 4


def test_grids_can_be_read_back_from_their_drawing() -> None:
    generator = torch.Generator().manual_seed(0)
    for canvas in (1, 2, 5, 9, 13, 30):
        drawing = Drawing(spec_of(vision={}), RowShape(canvas, canvas**2, 12))
        tokens = torch.randint(0, 12, (8, canvas**2), generator=generator)
        images = as_images(drawing(tokens))[:, 0]
        assert images.shape == (8, 224, 224, 3)
        size = 224 // canvas
        first = (224 - size * canvas) // 2 + size // 2
        places = torch.arange(canvas) * size + first
        centres = images[:, places][:, :, places].reshape(8, -1, 1, 3)
        nearest = (centres - palette(12)).square().sum(dim=-1).argmin(dim=-1)
        assert torch.equal(nearest, tokens)


@pytest.mark.parametrize("vocabulary", [12, 64, 256])
def test_colours_are_distinct(vocabulary: int) -> None:
    colours = palette(vocabulary)
    assert len(colours) == vocabulary + 1
    assert len({tuple(colour) for colour in colours.tolist()}) == vocabulary + 1


def test_rows_of_bytes_are_drawn_as_their_characters() -> None:
    text = "x = 3\tif y else 'z'"
    drawing = Drawing(spec_of(vision={"draw": "text"}), RowShape(0, 400, 256))
    tokens = torch.zeros(1, 400, dtype=torch.uint8)
    tokens[0, : len(text)] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    tokens[0, 336] = ord("Q")
    images = as_images(drawing(tokens))
    assert images.shape == (1, 2, 224, 224, 3)
    cells = torch.from_numpy(glyph_cells())
    ink = images[0, 0, 10:26, 10 : 10 + 7 * len(text), 0] == 0
    shown = [int((ink[:, 7 * i : 7 * i + 7] ^ cells).flatten(1).sum(dim=1).argmin()) for i in range(len(text))]
    assert [chr(32 + g) if g < 95 else "\t" for g in shown] == list(text)
    assert torch.equal(images[0, 1, 10:26, 10:17, 0] == 0, cells[ord("Q") - 32])
    assert float((images[0, 1] == 0).sum()) == 3 * float(cells[ord("Q") - 32].sum())


def test_rows_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ModelError, match="text of 120 symbols"):
        Drawing(spec_of(vision={"draw": "text"}), RowShape(0, 9, 120))
    with pytest.raises(ModelError, match="text needs images of 224 pixels"):
        Drawing(spec_of(vision={"draw": "text", "image": 64}), RowShape(0, 9, 20))
    with pytest.raises(ModelError, match="a canvas of 30 needs images of 30 pixels"):
        Drawing(spec_of(vision={"image": 16}), RowShape(30, 900, 12))
