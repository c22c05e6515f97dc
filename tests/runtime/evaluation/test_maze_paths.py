"""Paths in answers to mazes: cells summed over all mazes, whole paths, and their length beside equality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from puzzle_support import MAZES, puzzle_artifact, puzzle_metrics, train_on_puzzles

from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles, solves
from gridloom.runtime.data.puzzles.tables import MAZE_TOKENS
from gridloom.runtime.evaluation.maze_paths import PathTally, excess_steps
from gridloom.runtime.evaluation.puzzles import Tally
from gridloom.specs.validation import Validation

QUESTION = """
#######
#S    #
# # # #
#     #
# # # #
#    G#
#######
"""


def tokens(drawing: str) -> np.ndarray:
    return np.array([[MAZE_TOKENS.index(mark) + 1 for mark in "".join(drawing.strip().splitlines())]], dtype=np.uint8)


def drawn(*cells: tuple[int, int]) -> np.ndarray:
    answer = tokens(QUESTION)
    for row, column in cells:
        answer[0, row * 7 + column] = 5
    return answer


RIGHT_DOWN = drawn((1, 2), (1, 3), (1, 4), (1, 5), (2, 5), (3, 5), (4, 5))
DOWN_RIGHT = drawn((2, 1), (3, 1), (4, 1), (5, 1), (5, 2), (5, 3), (5, 4))
DETOUR = drawn((2, 1), (3, 1), (3, 2), (3, 3), (2, 3), (1, 3), (1, 4), (1, 5), (2, 5), (3, 5), (4, 5))
BROKEN = drawn((1, 2), (1, 3), (1, 4), (1, 5), (2, 5), (3, 5))
BRANCHED = drawn((1, 2), (1, 3), (1, 4), (1, 5), (2, 5), (3, 5), (4, 5), (2, 1))
APART = drawn((1, 2), (1, 3), (1, 4), (1, 5), (2, 5), (3, 5), (4, 5), (5, 2))


def test_another_shortest_path_is_valid_and_not_exact() -> None:
    asked = tokens(QUESTION)
    through_wall = RIGHT_DOWN.copy()
    through_wall[0, 2 * 7 + 2] = 5
    moved = RIGHT_DOWN.copy()
    moved[0, 1 * 7 + 1] = 2
    excess = {
        "equal": (RIGHT_DOWN, 0),
        "another shortest": (DOWN_RIGHT, 0),
        "a detour": (DETOUR, 4),
        "broken": (BROKEN, -1),
        "a branch": (BRANCHED, -1),
        "a cell apart": (APART, -1),
        "a wall less": (through_wall, -1),
        "no start": (moved, -1),
        "the question": (asked, -1),
        "no cell at all": (np.zeros_like(asked), -1),
    }
    for name, (answer, wanted) in excess.items():
        assert excess_steps(asked, answer).tolist() == [wanted], name
        assert solves("maze", asked, answer).tolist() == [wanted == 0], name


def test_a_start_beside_the_goal_needs_no_mark_and_a_way_round_is_no_shortest() -> None:
    asked = tokens("#####\n#SG #\n# # #\n#   #\n#####")
    assert excess_steps(asked, asked).tolist() == [0]
    round_it = asked.copy()
    round_it[0, [11, 16, 17, 18, 13, 8]] = 5
    assert excess_steps(asked, round_it).tolist() == [6]


def test_shares_are_those_of_all_cells_together() -> None:
    asked = np.repeat(tokens(QUESTION), 4, axis=0)
    labels = np.repeat(RIGHT_DOWN, 4, axis=0)
    answers = np.concatenate([RIGHT_DOWN, DOWN_RIGHT, DETOUR, asked[:1]])
    whole, parts = PathTally(), PathTally()
    assert whole.add(asked, answers, labels).tolist() == [0, 0, 4, -1]
    for row in range(4):
        one = PathTally()
        one.add(asked[row : row + 1], answers[row : row + 1], labels[row : row + 1])
        parts = parts + one
    assert parts == whole
    marked, right = answers == 5, labels == 5
    precision, recall = (marked & right).sum() / marked.sum(), (marked & right).sum() / right.sum()
    shares = whole.shares()
    assert shares["focus_precision"] == pytest.approx(precision)
    assert shares["focus_recall"] == pytest.approx(recall)
    assert shares["focus_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert (shares["valid_path"], shares["shortest"], shares["path_excess"]) == (0.75, 0.5, 4 / 3)


def test_a_copied_question_has_an_f1_of_zero_and_many_cells_right() -> None:
    asked = tokens(QUESTION)
    tally = Tally()
    tally.add(torch.from_numpy(asked), torch.zeros(1), torch.from_numpy(asked), torch.from_numpy(RIGHT_DOWN))
    tally.paths.add(asked, asked, RIGHT_DOWN)
    shares = tally.shares()
    assert shares["cell_accuracy"] == pytest.approx(42 / 49)
    assert (shares["focus_f1"], shares["valid_path"], shares["exact"]) == (0, 0, 0)
    assert "path_excess" not in shares


def test_right_answers_of_generated_mazes_are_shortest_paths(tmp_path: Path) -> None:
    arrays = load_puzzles(puzzle_artifact(tmp_path, MAZES).path).splits["test"]
    inputs, labels = (np.array(table, dtype=np.uint8) for table in (arrays.inputs, arrays.labels))
    assert not excess_steps(inputs, labels).any()


def test_validation_reports_paths_and_chooses_by_them(tmp_path: Path) -> None:
    wanted = Validation(every=2, share=0.3, metric="focus_f1")
    found = train_on_puzzles(tmp_path, MAZES, steps=4, batch_size=4, validate_=wanted)
    for name in ("focus_precision", "focus_recall", "focus_f1", "valid_path", "shortest"):
        assert (4, f"validation_{name}") in found
    assert puzzle_metrics(tmp_path)[2, "validation_focus_f1"] >= 0
