"""Functions of the language on small grids: values by hand, and laws that hold for any grid."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.search.programs import ProgramError
from gridloom.solvers.search.running import run_program


def grid_of(text: str) -> Grid:
    """Return the grid of rows that are separated by spaces."""
    return np.array([[int(cell) for cell in row] for row in text.split()], dtype=np.uint8)


def run(image: str, grid: Grid, shape: tuple[int, int] | None = None) -> Grid:
    """Return what an expression gives for a grid, laid into an output of its size, or of `shape`."""
    rows, columns = shape or grid.shape
    text = f"rows {rows}\ncolumns {columns}\nlayer all: {image}\n"
    task = Task("one", "one", (Pair(grid, np.zeros((rows, columns), dtype=np.uint8)),), (grid,))
    return run_program(text, task).tests[0]


grids = st.integers(1, 9).flatmap(
    lambda side: st.lists(st.integers(0, 3), min_size=side, max_size=9 * side).map(
        lambda cells: np.array(cells[: len(cells) // side * side], dtype=np.uint8).reshape(-1, side)
    )
)


@pytest.mark.parametrize(
    ("image", "before", "after"),
    [
        ("input > box > embed output", "0100 0020 0110", "0110 0110 0110"),
        ("input > colours > box > layer", "1002 0000 1000 0020", "1022 1022 1022 0022"),
        ("input > blocks", "110 112 002", "110 110 000"),
        ("input > blocks", "111 101 111", "000 000 000"),
        ("input > reach", "2000 0000 1103 1100", "2000 2000 1133 1100"),
        # another colour is in the way, and lines do not pass the nearest cell
        ("input > reach", "20311 20000", "20311 20000"),
        ("input > regions > keep cells > layer > recolour 4", "0010 0010 2210 0012", "4400 4400 0000 0000"),
        ("input > regions > layer", "010 101 010", "101 010 101"),
    ],
)
def test_values_by_hand(image: str, before: str, after: str) -> None:
    assert run(image, grid_of(before)).tolist() == grid_of(after).tolist()


def test_a_square_is_set_around_a_centre() -> None:
    assert run("input > spin", grid_of("12 03"), (4, 4)).tolist() == grid_of("1201 0332 2330 1021").tolist()


def test_a_tile_goes_on_beyond_the_image() -> None:
    """Rows repeat after three, of which the image shows five; the output has seven."""
    shown = grid_of("10 12 20 10 12")
    assert run("input > unit > tile output", shown, (7, 2)).tolist() == grid_of("10 12 20 10 12 20 10").tolist()


@pytest.mark.parametrize(
    ("name", "before"), [("unit", "12 30"), ("spin", "12"), ("regions > layer", "11 11"), ("unit", "1")]
)
def test_what_is_not_there_is_undefined(name: str, before: str) -> None:
    with pytest.raises(ProgramError, match="is undefined for demonstration 1"):
        run(f"input > {name}", grid_of(before))


@settings(deadline=None, max_examples=60)
@given(grids, st.integers(1, 9), st.integers(1, 9))
def test_a_unit_tiles_its_image(tile: NDArray[np.uint8], rows: int, columns: int) -> None:
    """The unit of any tiled image gives that image again, and is no larger than the tile."""
    image = np.tile(tile, (9, 9))[: tile.shape[0] + rows, : tile.shape[1] + columns][:30, :30]
    assert np.array_equal(run("input > unit > tile input", image), image)
    size = run("input > unit > hull_at_origin > recolour 1", image)
    assert size.any(axis=1).sum() <= tile.shape[0]
    assert size.any(axis=0).sum() <= tile.shape[1]


@settings(deadline=None, max_examples=60)
@given(grids)
def test_blocks_stay_and_every_cell_has_one(grid: NDArray[np.uint8]) -> None:
    """An opening is the same when done twice, keeps colours, and leaves no cell without three neighbours of a block."""
    once = run("input > blocks", grid)
    assert np.array_equal(run("input > blocks", once), once)
    assert np.array_equal(once[once > 0], grid[once > 0])
    full = np.pad(once > 0, 1)
    square = full[:-1, :-1] & full[1:, :-1] & full[:-1, 1:] & full[1:, 1:]
    covered = square[:-1, :-1] | square[1:, :-1] | square[:-1, 1:] | square[1:, 1:]
    assert np.array_equal(covered, once > 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9).flatmap(lambda side: st.lists(st.integers(0, 9), min_size=side**2, max_size=side**2)))
def test_a_spun_square_turns_into_itself(cells: list[int]) -> None:
    side = int(np.sqrt(len(cells)))
    square = np.array(cells, dtype=np.uint8).reshape(side, side)
    made = run("input > spin", square, (2 * side, 2 * side))
    turns = [np.rot90(made, quarter) for quarter in range(4)]
    assert all(np.array_equal(one, other) for one, other in pairwise(turns))
    assert np.array_equal(made[:side, :side], square)


@settings(deadline=None, max_examples=60)
@given(grids)
def test_regions_are_the_background(grid: NDArray[np.uint8]) -> None:
    """All regions together are the background, whole, and connected parts of it alone are one."""
    if (grid == 0).any():
        shape = run("input > regions > layer", grid)
        assert np.array_equal(shape == 1, grid == 0)
