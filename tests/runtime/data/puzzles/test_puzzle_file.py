"""Files of puzzles: CSV, lines and drawings, answers known or not, and one error for each thing that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gridloom.errors import DataError
from gridloom.runtime.data.puzzles.puzzle_file import kind_of_file, puzzle_text, read_puzzle_file
from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles, load_puzzles, puzzles_size, solves
from gridloom.specs.puzzles import MazeData, SudokuData

QUESTION, ANSWER = "1.3..4..2..3.3.1", "1234341221434321"
SWAP = str.maketrans("12", "21")
HARD = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
MAZE = ["#####", "#S  #", "# # #", "#  G#", "#####"]
SOLVED = ["#####", "#Soo#", "# #o#", "#  G#", "#####"]
SUDOKU = SudokuData(source="x")


def read(
    folder: Path, text: str, name: str = "mine.txt", spec: SudokuData | MazeData = SUDOKU
) -> list[tuple[str, str]]:
    (folder / name).write_text(text, encoding="utf-8")
    inputs, labels = read_puzzle_file(spec, folder / name)["test"]
    return [
        (puzzle_text(spec.kind, a.tolist()), puzzle_text(spec.kind, b.tolist()).strip("?"))
        for a, b in zip(inputs, labels, strict=True)
    ]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("mine.txt", f"{QUESTION}\n", [(QUESTION, "")]),
        ("mine.txt", QUESTION.replace(".", "0"), [(QUESTION, "")]),
        ("mine.txt", f"\ufeff# two\n{QUESTION}\n\n{QUESTION},{ANSWER}\r\n", [(QUESTION, ""), (QUESTION, ANSWER)]),
        ("mine.txt", "\n".join(QUESTION[i : i + 4] for i in range(0, 16, 4)), [(QUESTION, "")]),
        ("mine.txt", f"{HARD}\n{HARD}", [(HARD, ""), (HARD, "")]),
        ("mine.txt", "." * 36, [("." * 36, "")]),
        ("mine.csv", f"source,question,answer,rating\na,{QUESTION},{ANSWER},3\n", [(QUESTION, ANSWER)]),
        ("mine.csv", f"question\n{QUESTION}\n", [(QUESTION, "")]),
        ("mine.csv", f"Quizzes,Solutions\n{QUESTION},\n{QUESTION},{ANSWER}\n", [(QUESTION, ""), (QUESTION, ANSWER)]),
    ],
)
def test_sudokus_are_read_with_or_without_answers(
    tmp_path: Path, name: str, text: str, found: list[tuple[str, str]]
) -> None:
    assert read(tmp_path, text, name) == found
    assert kind_of_file(tmp_path / name) == "sudoku"


def test_mazes_are_read_row_by_row_or_in_a_line(tmp_path: Path) -> None:
    spec = MazeData(source="x")
    drawn = "\n".join(MAZE)
    text = f"\n{drawn}\n\n{drawn}\n{''.join(MAZE)}\n\n"
    assert read(tmp_path, text, "mine.maze", spec) == [("".join(MAZE), "")] * 3
    assert kind_of_file(tmp_path / "mine.maze") == "maze"
    csv = f"source,question,answer,rating\nm,{''.join(MAZE)},{''.join(SOLVED)},2\n"
    assert read(tmp_path, csv, "mine.csv", spec) == [("".join(MAZE), "".join(SOLVED))]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.txt", "", "a.txt: no puzzles"),
        ("a.txt", f"{QUESTION}\n{HARD}\n", r"a.txt:2: the puzzle has 81 cells, 4x4 has 16"),
        ("a.txt", f"{QUESTION[:-1]}7\n", "a.txt:1: cell 16 is '7'"),
        ("a.txt", f"{QUESTION} {ANSWER[:-2]}\n", "a.txt:1: the answer has 14 cells, 4x4 has 16"),
        ("a.txt", "12\n34\n", "a.txt:1: 4 cells are no sudoku"),
        ("a.txt", "1234\n3412\n21\n", "a.txt:1: 3 rows of 4, 4, 2 cells are no sudoku"),
        ("a.csv", f"{QUESTION}\n{QUESTION}\n", "a.csv:1: no column question in the header"),
        ("a.csv", "source,question\nonly\n", "a.csv:2: no question in 'only'"),
    ],
)
def test_what_is_no_puzzle_is_named_by_file_and_line(tmp_path: Path, name: str, text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read(tmp_path, text, name)


def test_a_set_of_a_file_has_test_puzzles_alone_and_known_answers_are_checked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text(f"{QUESTION}\n{QUESTION} {ANSWER}\n")
    spec = SudokuData(source="mine.txt")
    assert puzzles_size(spec, tmp_path) == (4, {"train": 0, "test": 2})
    build_puzzles(spec, tmp_path, tmp_path / "out")
    puzzles = load_puzzles(tmp_path / "out")
    assert list(puzzles.splits) == ["test"]
    assert puzzles.splits["test"].labels.any(axis=1).tolist() == [False, True]
    (tmp_path / "mine.txt").write_text(f"{QUESTION} {ANSWER.translate(SWAP)}\n")
    with pytest.raises(DataError, match="puzzle 1 of 1: the answer"):
        build_puzzles(spec, tmp_path, tmp_path / "again")


def test_an_answer_is_judged_by_the_rules_without_the_right_one() -> None:
    def tokens(text: str) -> list[int]:
        return [1 if cell == "." else int(cell) + 1 for cell in text]

    question = np.array([tokens(QUESTION)] * 5, dtype=np.uint8)
    answers = np.array(
        [tokens(text) for text in (ANSWER, ANSWER.translate(SWAP), ANSWER[:-1] + "2", QUESTION, ANSWER)], dtype=np.uint8
    )
    answers[4, 3] = 0  # a token that is no cell
    assert solves("sudoku", question, answers).tolist() == [True, False, False, False, False]
    marks = {mark: number for number, mark in enumerate("# SGo", start=1)}
    maze = np.array([[marks[cell] for cell in "".join(MAZE)]] * 3, dtype=np.uint8)
    paths = np.array([[marks[cell] for cell in "".join(rows)] for rows in (SOLVED, MAZE, SOLVED)], dtype=np.uint8)
    paths[2, 12] = 5  # a wall that was opened
    assert solves("maze", maze, paths).tolist() == [True, False, False]
