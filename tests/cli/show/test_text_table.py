"""Tables at the widths of terminals: nothing wider, no name broken, nothing lost without a word."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.cli.show.tables import rows_table
from gridloom.cli.show.text_table import text_width

WIDTHS = (60, 80, 120, 200)
RUN = "2026-11-30T21-29-33-1xy3nbn8"
STAGES = [
    {
        "stage": "pretrain",
        "kind": "train",
        "state": "will run",
        "why": "steps: 2000 -> 3000 (--set vars.steps=3000), optimizer.lr: 0.0001 -> 0.0003",
        "parameters": "3.47 M + 135 M",
        "FLOPs a step": "184 G",
        "steps": "3,000",
        "peak memory": "11.2 GB",
        "time": "41 min",
    }
]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_of_stages_fits_and_names_what_it_leaves_out(width: int) -> None:
    drop = ("time", "peak memory", "kind", "parameters", "steps", "FLOPs a step")
    lines = rows_table(STAGES, prose=("why",), drop=drop).lines(width)
    assert max(map(text_width, lines)) <= width
    shown = " ".join(" ".join(lines).split())
    assert "pretrain" in lines[1]
    assert "will run" in lines[1]
    for name, value in STAGES[0].items():
        here = all(word in shown for word in value.split()) if name == "why" else value in shown
        assert here or name in shown.partition("left out for this width:")[2], name
    assert ("left out" in shown) == (width < 120)


def test_prose_is_folded_narrower_before_rows_become_records() -> None:
    row = {
        "name": "0b0b0002.1@dd51",
        "verdict": "rejected",
        "seconds": 1.5,
        "feedback": "on example 3 one cell differs",
    }
    lines = rows_table([row], prose=("feedback",), drop=("seconds",)).lines(46)
    assert lines == [
        "name             verdict   feedback",
        "0b0b0002.1@dd51  rejected  on example 3 one",
        "                           cell differs",
        "left out for this width: seconds; --json has",
        "all",
    ]
    assert rows_table([row], prose=("feedback",), drop=("seconds",)).lines(40)[0].startswith("-- row 1 ")


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_without_columns_to_drop_become_records_with_whole_names(width: int) -> None:
    row = {f"column_{number}": RUN if number % 2 else "word " * number for number in range(8)}  # 162 wide
    lines = rows_table([row, row]).lines(width)
    assert max(map(text_width, lines)) <= width
    assert sum(line.count(RUN) for line in lines) == 8
    assert ("-- row 2 " in "\n".join(lines)) == (width < 200)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.text("ab \u8ff7", max_size=40), min_size=3, max_size=3), min_size=1, max_size=3),
    st.integers(60, 200),
)
def test_no_line_is_wider_than_the_terminal_unless_a_word_is(cells: list[list[str]], width: int) -> None:
    rows = [dict(zip(("one", "two", "three"), row, strict=True)) for row in cells]
    lines = rows_table(rows, prose=("two",), drop=("three",)).lines(width)
    assert max(map(text_width, lines)) <= max(width, max(text_width(text) for row in cells for text in row) + 9)


def test_a_pipe_gets_whole_lines() -> None:
    (_, line) = rows_table(STAGES, prose=("why",), drop=("time",)).lines(None)
    assert STAGES[0]["why"] in line
    assert line.endswith("41 min")
