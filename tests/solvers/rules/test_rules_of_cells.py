"""Rules of cells: what features measure, which rules are learnt from small tasks, and their texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.rules.features import features_of, is_colour, names_of_features
from gridloom.solvers.rules.language import RuleError, parse_rule
from gridloom.solvers.search.found import Budget
from gridloom.solvers.search.programs import ProgramError, parse_program
from gridloom.solvers.search.running import run_program
from gridloom.solvers.search.search import search

SMALL = Budget(depth=10, states=2000, pieces=1000, megabytes=32)


def grid(text: str) -> Grid:
    """Return a grid of rows that are separated by spaces."""
    return np.array([[int(cell) for cell in row] for row in text.split()], dtype=np.uint8)


def task_of(*pairs: tuple[str, str], tests: tuple[str, ...]) -> Task:
    """Return a task of grids as text."""
    return Task("made", "made", tuple(Pair(grid(a), grid(b)) for a, b in pairs), tuple(grid(test) for test in tests))


COPIED_SHAPES = task_of(
    ("50000 55000 00050 00055 55500", "30000 33000 00030 00033 55500"),
    ("05550 00000 05000 05500 00000", "05550 00000 05000 05500 00000"),
    ("55055 00000 55000 00000 50505", "33033 00000 33000 00000 30303"),
    tests=("55500 00000 55055 05005 00000",),
)
"""Shapes that stand in the grid more than once turn from 5 to 3."""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("part4 cells", "550 050 003", "332 332 331"),
        ("ray right", "0050 2000", "55:: ::::"),
        ("between 0", "5050", ":5::"),
        ("enclosed", "0555 0505 0555", "0000 0010 0000"),
        ("around", "0555 0505 0555", "5::: 5:5: 5:::"),
        ("object mirror_across", "0000 0250 0200", ":::: :52: :02:"),
        ("part8 copies", "5005 0000 5500", "2002 0000 1100"),
        ("row_filled", "505 000", "222 000"),
    ],
)
def test_a_feature_measures_what_its_name_says(name: str, before: str, after: str) -> None:
    """Values of a feature at every cell; ':' is the colour of what is not there."""
    expected = [[10 if value == ":" else int(value) for value in row] for row in after.split()]
    assert features_of(grid(before))[name].tolist() == expected


def test_rules_explain_what_no_layers_do() -> None:
    """A condition on the number of alike shapes answers, and its text gives the same grids again."""
    best = search(COPIED_SHAPES, SMALL).found[0]
    assert best.fits_all
    assert best.program.rules
    assert np.array_equal(best.grids[0], grid("55500 00000 33033 03003 00000"))


@pytest.mark.parametrize("rule", ["3: part4 holes >= 1 & own = 5", "ray up_left: all", "[input > crop]: row != -1"])
def test_a_rule_is_read_and_written_alike(rule: str) -> None:
    """Text of rules is canonical."""
    text = f"rows 3\ncolumns 3\non: input\nrule {rule}\n"
    assert str(parse_program(text)) == text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("on: input\nrule 3: nonsense = 1", "line 4 .*no feature is named 'nonsense'"),
        ("on: input\nrule 3: own = x", "line 4 .*compares with a number, not with 'x'"),
        ("on: input\nrule 3", "line 4 .*'rule COLOUR: CONDITION"),
        ("on: input\nrule part4 cells: all", "line 4 .*is a number, not a colour"),
        ("on: input\nrule 3: own", "line 4 .*a condition is"),
        ("on: input\nrule [input > nothing]: all", "line 4 .*no function is named 'nothing'"),
        ("rule 3: all", "no line 'on:'"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_line(lines: str, message: str) -> None:
    """The message names the line and the part."""
    with pytest.raises(ProgramError, match=message):
        parse_program(f"rows 3\ncolumns 3\n{lines}\n")


def test_a_cell_without_a_rule_is_background() -> None:
    """The demonstrations show it as not set."""
    task = task_of(("50", "30"), tests=("55",))
    output = run_program("rows 1 * [input]\ncolumns 1 * [input]\non: input\nrule 3: own = 5 & column = 0\n", task)
    assert output.demos[0].tolist() == [[3, 10]]
    assert output.tests[0].tolist() == [[3, 0]]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.sampled_from((1, 2, 3, 30)), st.sampled_from((1, 2, 3, 30))),
    colours=st.integers(1, 10),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_legal_grid_has_every_feature(shape: tuple[int, int], colours: int, seed: int) -> None:
    """Each feature is a number for every cell, and those that are colours are colours."""
    cells = np.random.default_rng(seed).integers(10 - colours, 10, size=shape).astype(np.uint8)
    features = features_of(cells)
    assert set(features) == names_of_features()
    for name, values in features.items():
        assert values.shape == shape
        assert values.dtype == np.int16
        if is_colour(name):
            assert values.min() >= 0
            assert values.max() <= 10


def test_a_rule_without_a_known_image_is_an_error() -> None:
    """The text of an image is read by the program."""

    def unknown(text: str) -> int:
        raise RuleError(text)

    with pytest.raises(RuleError, match="crop"):
        parse_rule("[crop]: all", unknown)
