"""Wording of messages: the nearest known name, lists of names, times."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gridloom import wording
from gridloom.wording import did_you_mean, duration, first_line, listed, near_and_known, nearest

NAMES = ("training", "evaluation", "Eval2")


@pytest.mark.parametrize(
    ("word", "name"),
    [("trainin", "training"), ("EVALUATION", "evaluation"), ("eval2", "Eval2"), ("sudoku", None), ("", None)],
)
def test_the_nearest_name_is_found_in_any_case(word: str, name: str | None) -> None:
    assert nearest(word, NAMES) == name
    assert did_you_mean(word, NAMES, "otherwise") == (f"did you mean '{name}'?" if name else "otherwise")


def test_of_names_that_differ_in_case_only_the_first_is_named() -> None:
    assert nearest("ARC", ["Arc", "arc"]) == "Arc"


def test_a_hint_with_the_known_names_has_them_with_and_without_a_near_one() -> None:
    assert near_and_known("trainin", NAMES) == "did you mean 'training'? known: training, evaluation, Eval2"
    assert near_and_known("sudoku", NAMES) == "known: training, evaluation, Eval2"
    assert near_and_known("sudoku", [f"x{i}" for i in range(21)]).endswith(", x19, ... (21 in all)")


def test_a_long_list_is_cut_and_counted() -> None:
    assert listed(NAMES, 3) == "training, evaluation, Eval2"
    assert listed(NAMES, 2) == "training, evaluation, ... (3 in all)"
    assert listed([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (41 * 60, "41 min"),
        (3599, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_a_time_is_written_as_a_person_would(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("error", "line"),
    [(EOFError(), "EOFError"), (ValueError("  \n "), "ValueError"), (OSError("\na\nb"), "a"), (KeyError("k"), "'k'")],
)
def test_an_exception_without_a_text_is_named_by_its_class(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_wording_imports_nothing_of_gridloom() -> None:
    tree = ast.parse(Path(wording.__file__).read_text(encoding="utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imported
    assert not [text for text in map(ast.unparse, imported) if "gridloom" in text or "from ." in text]
