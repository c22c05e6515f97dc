"""Reading grids from text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.runtime.data.arc.parsing import parse_grid


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("1 2\n3 4", [[1, 2], [3, 4]]),
        ("The rule mirrors.\nOutput:\n12\n34\nDone.", [[1, 2], [3, 4]]),
        ("[[1, 2], \n [3, 4]]", [[1, 2], [3, 4]]),
        ("1 2\n3 4\n\n5 6 7\n", [[5, 6, 7]]),
        ("1 2\n3 4\n\n5 6\n7", [[1, 2], [3, 4]]),
        ("```\n0 0\n```", [[0, 0]]),
        ("Step 1: rotate by 90", None),
        ("10 and 11\n1 2 x", None),
        ("", None),
        ("\n".join(["1"] * 31), None),
    ],
)
def test_last_rectangular_digit_block_is_read(text: str, grid: list[list[int]] | None) -> None:
    assert parse_grid(text) == grid


@given(st.integers(1, 30), st.integers(1, 30), st.data(), st.sampled_from([" ", "", ", "]))
def test_any_printed_grid_is_read_back(height: int, width: int, data: st.DataObject, separator: str) -> None:
    row = st.lists(st.integers(0, 9), min_size=width, max_size=width)
    grid = data.draw(st.lists(row, min_size=height, max_size=height))
    printed = "\n".join(separator.join(map(str, cells)) for cells in grid)
    assert parse_grid(f"I think\n\n{printed}\n\nthat is it.") == grid


@given(st.text(alphabet="0123456789 \n[],ax", max_size=80))
def test_what_is_read_is_rectangular(text: str) -> None:
    grid = parse_grid(text)
    assert grid is None or (len({len(row) for row in grid}) == 1 and all(0 <= c <= 9 for row in grid for c in row))
