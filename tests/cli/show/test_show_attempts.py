"""What people see: grids, progress lines, tables."""

from __future__ import annotations

import io
import re
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gridloom.cli.show.attempts import SideBySide, attempt_diff_view, attempt_view, differing_cells, grid_text
from gridloom.cli.show.progress import PlainReporter, RichReporter
from gridloom.cli.show.tables import cell, print_table, rows_table
from gridloom.runtime.data.arc.parsing import read_grid_text
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.runtime.show.draw import hex_of
from gridloom.solvers.loop.events import PicksShown, TaskShown
from gridloom.stores.records import AttemptRecord, as_dict

grids = st.integers(1, 30).flatmap(
    lambda width: st.lists(st.lists(st.integers(0, 9), min_size=width, max_size=width), min_size=1, max_size=30)
)


def test_a_task_is_drawn_once_with_its_picks_and_never_as_an_object() -> None:
    grid = np.ones((2, 2), dtype=np.uint8)
    task = Task("aaaa0001", "training", demos=(Pair(grid, grid),), tests=(grid,))
    stream = io.StringIO()
    reporter = PlainReporter(Console(file=stream, width=100))
    reporter.show(TaskShown(task))
    assert stream.getvalue() == ""
    reporter.show(PicksShown(task, picks=(), accepted=False, num_attempts=3))
    assert stream.getvalue().count("aaaa0001") >= 1
    assert "TaskShown" not in stream.getvalue()


@pytest.mark.parametrize(
    ("text", "cut", "shown"),
    [
        ("[[0,0,5],[0,5,0]]", False, "in square brackets, characters 1 to 17\n"),
        ("so\n0 0 5\n0 5 0\n\n1 1\n1 1", False, "as lines of digits, characters 17 to 23; 1 other grid in the text\n"),
        ("[[0,0,5],[0,", True, "none: the text ends within the grid\n"),
    ],
)
def test_an_attempt_shows_where_its_grid_was_read_and_what_was_asked_again(text: str, cut: bool, shown: str) -> None:
    asks = [
        {"about": "demo 2", "prompt": "p", "text": "9 9\n9 9\n", "cut": True},
        {"about": "t3|||0123456798", "prompt": "p", "text": "", "cut": False},
    ]
    numbers = {"prompt_tokens": 11, "new_tokens": 4, "duration_s": 0.26}
    record = AttemptRecord(
        **{"run_id": "r", "stage": "solve", "task_id": "aaaa0001", "attempt": 1, "attempt_id": "aaaa0001.1"},
        **{"plan": {}, "grids": [], "geometry": {}, "timings": {}, "started_at": 0.0, "ended_at": 0.0},
        **{"verdict": "rejected", "stage_key": "gl1:0", "checkpoint_key": "gl1:1", "text": text},
        **{"reading": read_grid_text(text, cut=cut).as_dict()},
        **{"confirmation": {"confirmed": False, "asks": [ask | numbers for ask in asks]}},
    )
    row = as_dict(record) | {"task": None, "candidates": [], "verdicts": [], "llm_call": None}
    out = Console(file=io.StringIO(), width=120)
    out.print(attempt_view(row))
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    assert f"grid in the text\n{shown}" in drawn
    assert "asked again: not confirmed, 2 questions\ndemo 2 left out: 11 + 4 tokens, 0.3 s, cut off" in drawn
    assert "tokens\n9 9\n9 9\nunder view t3|||0123456798: 11 + 4 tokens, 0.3 s\n(nothing)\n" in drawn
    assert "{'" not in drawn


@given(grids)
def test_a_drawn_grid_reads_back_as_its_digits(grid: list[list[int]]) -> None:
    lines = grid_text(grid).plain.split("\n")
    assert [[int(c) for c in line.split()] for line in lines] == grid


def test_every_cell_has_its_arc_colour() -> None:
    text = grid_text([list(range(10))])
    colours = [span.style.bgcolor.get_truecolor().hex.upper() for span in text.spans]  # type: ignore[union-attr]
    assert colours == [hex_of(value).upper() for value in range(10)]


def test_grids_that_do_not_fit_are_wrapped_to_the_next_row() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(SideBySide([(f"g{i}", [[1] * 20] * 2) for i in range(3)]))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split() for line in lines if "g" in line] == [["g0"], ["g1"], ["g2"]]


def test_an_absent_grid_says_so() -> None:
    assert grid_text([]).plain == "(no grid)"


def test_differing_cells_lists_place_and_both_values() -> None:
    assert differing_cells([[1, 2], [3, 4]], [[1, 2], [5, 4]]) == [(1, 0, 3, 5)]
    assert differing_cells([[1]], [[1, 2]]) == []


def test_plain_progress_ends_with_count_rate_and_time(monkeypatch: object) -> None:
    out = io.StringIO()
    report = PlainReporter(Console(file=out, width=200))
    with report.task("pretrain", total=4, unit="step") as bar:
        bar._start -= 3  # type: ignore[attr-defined]
        for _ in range(4):
            bar.advance(1, loss=1.23456)
    line = out.getvalue().strip()
    assert line.startswith("pretrain  4/4 step  1.3 step/s  in 0:03")
    assert line.endswith("loss 1.235")


def test_short_work_prints_no_progress_line() -> None:
    out = io.StringIO()
    with PlainReporter(Console(file=out)).task("quick", total=2) as bar:
        bar.advance(2)
    assert out.getvalue() == ""


def test_a_terminal_shows_bar_rate_and_fields() -> None:
    out = io.StringIO()
    report = RichReporter(Console(file=out, width=160, force_terminal=True))
    with report.task("solve", total=3, unit="task") as bar:
        bar.advance(3, accepted=2)
    shown = out.getvalue()
    assert "solve" in shown
    assert "3/3" in shown
    assert "accepted 2" in shown


def test_cells_of_a_table_are_written_for_people() -> None:
    assert [cell(v) for v in (None, True, 0.123456, 3, b"abc", [[1]], datetime(2026, 1, 2, 3, 4, 5))] == [
        "-",
        "yes",
        "0.1235",
        "3",
        "<3 bytes>",
        "[[1]]",
        "2026-01-02 03:04:05",
    ]
    assert rows_table([], ["a"]).lines() == ["a"]


def test_columns_of_a_table_are_as_wide_as_what_they_show() -> None:
    rows = [{"name": "a", "count": 5}, {"name": "\u8ff7\u8def", "count": 1200}, {"name": None, "count": None}]
    table = rows_table(rows)
    assert table.lines() == ["name  count", "a         5", "\u8ff7\u8def   1200", "-         -"]


def test_a_table_too_wide_for_the_terminal_is_folded_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows_table([{"id": "#" * 30, "text": "*" * 30}])
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    print_table(table)
    folded = re.sub("\x1b\\[[0-9]*m", "", out.getvalue())
    assert max(map(len, folded.splitlines())) <= 40
    assert folded.count("#") == folded.count("*") == 30
    monkeypatch.setenv("COLUMNS", "80")
    out.seek(0)
    out.truncate()
    print_table(table)
    assert out.getvalue().splitlines() == table.lines()


def test_difference_of_two_attempts_tells_plans_texts_cells_verifiers_and_times() -> None:
    first = {
        "attempt_id": "aaaa0001.1",
        "name": "aaaa0001.1@4fc1",
        "plan": {"seed": 1, "views": ["t1|||0123456789"]},
        "prompt": "same",
        "text": "1 2",
        "grids": [[[1, 2], [3, 4]]],
        "verdict": "rejected",
        "score": 0.5,
        "started_at": 0.0,
        "ended_at": 1.0,
        "verdicts": [{"verifier": "form", "score": 1.0}, {"verifier": "agreement", "score": 0.25}],
        "timings": {"plan": 0.001, "propose": 0.5},
    }
    second = first | {
        "attempt_id": "aaaa0001.2",
        "name": "aaaa0001.2@4fc1",
        "plan": {"seed": 2, "views": ["t1|||0123456789"]},
        "text": "1 3",
        "grids": [[[1, 2], [3, 5]]],
        "verdict": "accepted",
        "score": 0.9,
        "ended_at": 3.0,
        "verdicts": [{"verifier": "form", "score": 1.0}, {"verifier": "agreement", "score": None}],
        "timings": {"plan": 0.001, "reason": 0.25},
    }
    stream = io.StringIO()
    Console(file=stream, width=100).print(attempt_diff_view(first, second))
    shown = stream.getvalue()
    for said in (
        "plan.seed",
        "1 -> 2",
        "from character 3: '2' -> '3'",
        "1 of 4 cells differ: (2,2) 4 -> 5",
        "0.50 rejected -> 0.90 accepted",
        "verdict.agreement",
        "0.25 -> none",
        "time.reason",
        "- -> 0.250 s",
        "time.propose",
        "0.500 s -> -",
        "0.50 -> 0.25",
    ):
        assert said in shown
    assert "plan.views" not in shown
    assert "reason.prompt" not in shown
