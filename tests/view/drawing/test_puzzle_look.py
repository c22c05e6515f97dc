"""Looks of puzzles: what breaks a rule is marked, and nothing else, as the evaluation judges."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gridloom.runtime.data.puzzles.puzzle_set import solves
from gridloom.view.drawing.puzzles import SUDOKU_LETTERS, broken_cells, puzzle_look, value_of

SOLVED = "1234341221434321"


@given(st.data())
def test_a_sudoku_without_a_mark_is_a_solved_one(data: st.DataObject) -> None:
    cells = list(SOLVED)
    for place in data.draw(st.lists(st.integers(0, 15), max_size=3)):
        cells[place] = data.draw(st.sampled_from("1234?"))
    blanks = data.draw(st.sets(st.integers(0, 15)))
    question = "".join("." if place in blanks else cell for place, cell in enumerate(SOLVED))
    tokens = [np.array([[".123456789".find(cell) + 1 for cell in text]], dtype=np.uint8) for text in (question, cells)]
    marks = broken_cells("sudoku", 4, question, "".join(cells))
    assert (marks == []) == bool(solves("sudoku", *tokens)[0])


def test_only_the_cells_of_a_conflict_are_marked() -> None:
    question, answer = "1...............", "1134341221434321"
    assert broken_cells("sudoku", 4, question, answer) == [0, 1, 9]
    assert broken_cells("sudoku", 4, question, "2" + SOLVED[1:]) == [0, 1, 8]
    assert 0 in broken_cells("sudoku", 4, question, "4" + SOLVED[1:])


def test_a_maze_marks_what_was_changed_but_no_path() -> None:
    question = "#####S G#####   "
    assert broken_cells("maze", 4, question, "#####SoG#####ooo") == []
    assert broken_cells("maze", 4, question, "#o###S G#####   ") == [1]
    assert broken_cells("maze", 4, question, "#####S?o#####   ") == [6, 7]


def test_a_look_holds_values_boxes_and_letters() -> None:
    found = puzzle_look("sudoku", 4, "1" + 15 * ".", SOLVED)
    assert found is not None
    assert [SUDOKU_LETTERS[value] for value in found.question[0]] == ["1", " ", " ", " "]
    assert found.box == "2 2"
    assert puzzle_look("sudoku", 6, "." * 36, "1" * 36).box == "2 3"  # type: ignore[union-attr]
    assert value_of("maze", "?") not in {value_of("maze", cell) for cell in "# SGo"}


def test_a_record_that_is_no_puzzle_has_no_look() -> None:
    assert puzzle_look("sudoku", 5, "." * 25, "1" * 25) is None
    assert puzzle_look("sudoku", 4, "." * 16, "1" * 15) is None
    assert puzzle_look("maze", 0, "", "") is None
