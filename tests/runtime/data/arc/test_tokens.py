"""Tokens: what the canvas holds, and that nothing is lost on the way there and back."""

from __future__ import annotations

import numpy as np
import pytest
from data_cases import grids
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc.tokens import (
    COLOUR0,
    EOS,
    PAD,
    crop,
    crop_back,
    crop_batch,
    crop_sizes,
    encode,
    encode_batch,
)
from gridloom.runtime.data.arc.views import View
from gridloom.runtime.data.tasks import Grid


def test_every_size_comes_back_from_the_canvas() -> None:
    sizes = [(rows, columns) for rows in range(1, 31) for columns in range(1, 31)]
    noise = np.random.default_rng(0)
    originals = [noise.integers(0, 10, size, dtype=np.uint8) for size in sizes]
    for back, original in zip(crop_batch(encode_batch(originals, 30), 30), originals, strict=True):
        assert back is not None
        assert np.array_equal(back, original)


@given(grids(max_side=8), st.integers(8, 12), st.data())
def test_border_and_corner_stand_where_the_reference_puts_them(grid: Grid, canvas: int, data: st.DataObject) -> None:
    rows, columns = grid.shape
    down = data.draw(st.integers(0, canvas - rows))
    right = data.draw(st.integers(0, canvas - columns))
    expected = np.zeros((canvas + 1, canvas + 1), dtype=np.uint8)
    expected[down : down + rows, right : right + columns] = grid + COLOUR0
    expected[down + rows, right : right + columns] = EOS
    expected[down : down + rows, right + columns] = EOS
    tokens = encode(grid, canvas, (down, right)).reshape(canvas, canvas)
    assert np.array_equal(tokens, expected[:canvas, :canvas])
    if down + rows < canvas and right + columns < canvas:
        assert tokens[down + rows, right + columns] == PAD


@given(st.lists(grids(max_side=6), min_size=1, max_size=4), st.data())
def test_views_of_a_batch_are_those_of_its_grids_one_by_one(batch: list[Grid], data: st.DataObject) -> None:
    view = st.builds(View, st.integers(0, 7), st.permutations(range(10)).map(tuple))
    views = [data.draw(view) for _ in batch]
    whole = encode_batch(batch, 7, views)
    for row, grid, shown in zip(whole, batch, views, strict=True):
        assert np.array_equal(row, encode(shown.apply(grid), 7))


@given(st.lists(grids(max_side=6), max_size=5), st.data())
def test_crop_back_undoes_views_of_a_batch(batch: list[Grid], data: st.DataObject) -> None:
    view = st.builds(View, st.integers(0, 7), st.permutations(range(10)).map(tuple))
    views = [data.draw(view) for _ in batch]
    tokens = encode_batch(batch, 7, views)
    if batch:
        tokens[0] = 0
    back = crop_back(tokens, 7, views)
    assert len(back) == len(batch)
    for number, (found, grid) in enumerate(zip(back, batch, strict=True)):
        if number == 0:
            assert found is None
        else:
            assert found is not None
            assert np.array_equal(found, grid)


@given(st.lists(grids(max_side=5), min_size=1, max_size=4), st.data())
def test_crop_back_undoes_translations_too(batch: list[Grid], data: st.DataObject) -> None:
    views = []
    for grid in batch:
        turned, colours = data.draw(st.integers(0, 7)), tuple(data.draw(st.permutations(range(10))))
        rows, columns = View(turned).apply(grid).shape
        offset = (data.draw(st.integers(0, 9 - rows)), data.draw(st.integers(0, 9 - columns)))
        views.append(View(turned, colours, offset))
    tokens = encode_batch(batch, 9, views)
    before = tokens.copy()
    for found, grid in zip(crop_back(tokens, 9, views), batch, strict=True):
        assert found is not None
        assert np.array_equal(found, grid)
    assert np.array_equal(tokens, before)


@pytest.mark.parametrize("offset", [(0, 28), (28, 0), (-1, 0)])
def test_a_grid_that_does_not_fit_is_refused(offset: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="does not fit on a 30x30 canvas"):
        encode(np.zeros((3, 3), dtype=np.uint8), 30, offset)


def largest(tokens: NDArray[np.uint8]) -> tuple[int, int]:
    """The crop's definition, word for word: by trying every rectangle."""
    best = (0, 0)
    canvas = len(tokens)
    for rows in range(1, canvas + 1):
        for columns in range(1, canvas + 1):
            part = tokens[:rows, :columns]
            whole = bool(((part >= 2) & (part <= 11)).all())
            # the widest of a row count comes last, so a later equal area of more rows never wins over fewer rows
            if whole and rows * columns > best[0] * best[1]:
                best = (rows, columns)
    return best


@given(st.integers(1, 6), st.data())
def test_crop_is_the_largest_rectangle_of_colours(canvas: int, data: st.DataObject) -> None:
    token = st.sampled_from([0, 1, 2, 3, 11, 12, 255, 4, 5, 6])
    cells = data.draw(st.lists(token, min_size=canvas * canvas, max_size=canvas * canvas))
    tokens = np.array(cells, dtype=np.uint8)
    size = tuple(crop_sizes(tokens[None], canvas)[0].tolist())
    assert size == largest(tokens.reshape(canvas, canvas))
    found = crop(tokens, canvas)
    assert (found is None) == (size == (0, 0))
    if found is not None:
        assert np.array_equal(found, tokens.reshape(canvas, canvas)[: size[0], : size[1]] - 2)


def test_crop_sees_nothing_where_the_corner_is_no_colour() -> None:
    tokens = np.full(9, 5, dtype=np.uint8)
    tokens[0] = EOS
    assert crop(tokens, 3) is None
