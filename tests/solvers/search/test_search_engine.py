"""Search: programs found for small tasks, what their texts give again, and legal tasks of every shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.search.found import Budget, Result
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER
from gridloom.solvers.search.programs import ProgramError, parse_program
from gridloom.solvers.search.running import run_program
from gridloom.solvers.search.search import search

SMALL = Budget(depth=20, states=4000, pieces=2000, megabytes=32)


def grid(text: str) -> Grid:
    """Return a grid of rows that are separated by spaces."""
    return np.array([[int(cell) for cell in row] for row in text.split()], dtype=np.uint8)


def task_of(*pairs: tuple[str, str], tests: tuple[str, ...]) -> Task:
    """Return a task of grids as text."""
    return Task("made", "made", tuple(Pair(grid(a), grid(b)) for a, b in pairs), tuple(grid(test) for test in tests))


FLIPPED = task_of(("120 000 300", "021 000 003"), ("400 456 000", "004 654 000"), tests=("100 020 700",))
CROPPED = task_of(
    ("00000 02300 02000 00000", "23 20"), ("0000 0450 0000 0000", "45"), tests=("00000 00000 00067 00800",)
)
FILLED = task_of(
    ("00000 03330 03030 03330 00000", "00000 03330 03430 03330 00000"),
    ("0333 0303 0333 0000", "0333 0343 0333 0000"),
    tests=("333000 303000 303000 333000",),
)
CASES = ((FLIPPED, "001 020 007"), (CROPPED, "067 800"), (FILLED, "333000 343000 343000 333000"))


@pytest.mark.parametrize(("task", "answer"), CASES)
def test_a_task_of_one_function_is_solved_and_fits(task: Task, answer: str) -> None:
    """The first candidate fits every demonstration and is right."""
    best = search(task, SMALL).found[0]
    assert all(best.fits)
    assert np.array_equal(best.grids[0], grid(answer))


@pytest.mark.parametrize(("task", "answer"), CASES)
def test_every_program_gives_its_grids_again_from_its_text(task: Task, answer: str) -> None:
    """Program texts are complete: run again they give the same grids and fit the same demonstrations."""
    found = search(task, SMALL).found
    assert found
    for one in found[:20]:
        text = str(one.program)
        assert str(parse_program(text)) == text
        output = run_program(text, task)
        assert output.fits == one.fits
        assert all(np.array_equal(a, b) for a, b in zip(output.tests, one.grids, strict=True))


def texts(result: Result) -> list[tuple[str, tuple[bool, ...], int]]:
    """Return programs, fits and costs of a result."""
    return [(str(one.program), one.fits, one.cost) for one in result.found]


def test_the_same_budget_gives_the_same_result_and_is_kept() -> None:
    """States are counted, not timed."""
    budget = Budget(depth=20, states=300, pieces=200, megabytes=32)
    first, second = search(FILLED, budget), search(FILLED, budget)
    assert texts(first) == texts(second)
    assert first.exhausted
    assert first.states <= 2 * 300
    assert first.states < search(FILLED, SMALL).states


def test_a_search_out_of_time_returns_what_it_has() -> None:
    """Seconds that are over at once end the search after its first steps."""
    result = search(FILLED, Budget(seconds=1e-9))
    assert result.exhausted
    assert result.states < search(FILLED).states / 2


SYMMETRIC = task_of(("121 000 343", "121 000 343"), ("120 000 300", "021 000 003"), tests=("100 020 700",))
"""A mirror task whose first demonstration a copy explains too."""
AMBIGUOUS = task_of(("121 000 343", "121 000 343"), ("505 060 707", "505 060 707"), tests=("100 020 700",))
"""A task that a copy explains, and a mirror."""


def test_an_answer_is_found_again_without_a_demonstration_that_it_does_not_need() -> None:
    """Without the first demonstration the mirror is found; without the second a copy is, which misses that one."""
    assert search(FLIPPED, SMALL).found[0].again == (True, True)
    best = search(SYMMETRIC, SMALL).found[0]
    assert np.array_equal(best.grids[0], grid("001 020 007"))
    assert best.again == (True, False)
    assert search(task_of(("120", "021"), tests=("100",)), SMALL).found[0].again == ()


def test_programs_that_fit_and_answer_differently_are_all_kept() -> None:
    """The dearer of two explanations is the second candidate, unless a hint speaks for it."""
    copied, mirrored = grid("100 020 700"), grid("001 020 007")
    found = [one for one in search(AMBIGUOUS, SMALL).found if one.fits_all]
    assert np.array_equal(found[0].grids[0], copied)
    assert any(np.array_equal(one.grids[0], mirrored) for one in found)
    hinted = search(AMBIGUOUS, SMALL, [mirrored]).found
    assert np.array_equal(hinted[0].grids[0], mirrored)
    assert hinted[0].near == 1
    assert search(AMBIGUOUS, SMALL, [None]).found[0].near == 0


def test_a_search_under_a_turn_gives_programs_that_turn_the_grids() -> None:
    """A mirror is found with rows and columns exchanged, and its text says so."""
    best = search(FLIPPED, replace(SMALL, turns=(6,))).found[0]
    assert best.program.turned == 6
    assert np.array_equal(best.grids[0], grid("001 020 007"))
    output = run_program(str(best.program), FLIPPED)
    assert all(output.fits)
    assert np.array_equal(output.tests[0], best.grids[0])


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    """Draw a legal task: sides of 1 to 30, few or many colours, one to five demonstrations."""
    seed = draw(st.integers(0, 2**32 - 1))
    source = np.random.default_rng(seed)
    side = draw(st.sampled_from((1, 2, 5, 30)))
    colours = draw(st.sampled_from((1, 2, 10)))

    def one() -> Grid:
        fixed = draw(st.booleans())
        h, w = (side, side) if fixed else (int(n) for n in source.integers(1, side + 1, size=2))
        return (source.integers(0, colours, size=(h, w)) + (colours == 1)).astype(np.uint8)

    pairs = [Pair(one(), one()) for _ in range(draw(st.integers(1, 5)))]
    return Task("drawn", "drawn", tuple(pairs), tuple(one() for _ in range(draw(st.integers(1, 2)))))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(task=tasks())
def test_any_legal_task_is_searched_within_its_budget(task: Task) -> None:
    """No task ends in an error; candidates are legal grids and stand by their texts."""
    budget = Budget(depth=20, states=400, pieces=300, megabytes=16)
    result = search(task, budget)
    assert result.states <= 2 * budget.states
    assert result.pieces <= 2 * budget.pieces
    for found in result.found[:3]:
        output = run_program(str(found.program), task)
        assert output.fits == found.fits
        for again, answer in zip(output.tests, found.grids, strict=True):
            assert np.array_equal(again, answer)
            assert min(answer.shape) >= 1
            assert max(answer.shape) <= 30
            assert answer.max() <= 9


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no line 'rows'"),
        ("rows 3\ncolumns 3\n", "no line 'layer'"),
        ("rows 3\ncolumns 3\nlayer all: input > nonsense\n", "line 3 .*no function is named 'nonsense'"),
        ("rows 3\ncolumns 3\nlayer all: input > cut\n", "line 3 .*gives a list of images"),
        ("rows 3\ncolumns 3\nlayer all: input > pick cells\n", "takes one list, not one image"),
        ("rows x\n", "line 1 .*'x' is no size"),
        ("rows 3\ncolumns 3\nlayer some: input\n", "line 3 .*'some'"),
        ("colours many\n", "line 1 .*'many'"),
        ("turned 9\n", "line 1"),
        ("rows 40\ncolumns 3\nlayer all: input\n", "40x3"),
        ("rows 3\ncolumns 3\nlayer all: demo 9\n", "no demonstration 9"),
        ("rows 3\ncolumns 3\nlayer all: input > blank > pick_unique\n", "takes one list"),
    ],
)
def test_a_wrong_program_is_refused_with_its_line(text: str, part: str) -> None:
    """Text that is no program, or none of this task, is one error."""
    with pytest.raises(ProgramError, match=part):
        run_program(text, FLIPPED)


def test_names_of_functions_are_unique_and_are_read_back() -> None:
    """Every function can stand in a program."""
    assert len(NUMBER) == len(FUNCTIONS)
    for function in FUNCTIONS:
        before = {"image": "input", "list": "input > objects 4"}[function.takes]
        after = {"image": "", "list": " > layer"}[function.gives]
        text = f"rows 3\ncolumns 3\nlayer all: {before} > {function.name}{after}\n"
        assert str(parse_program(text)) == text
