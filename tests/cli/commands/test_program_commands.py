"""The commands about programs, and the page that lists the language."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gridloom.runtime.data.tasks import Pair, Task
from gridloom.solvers.search.descriptions import DESCRIPTIONS, page, pictures
from gridloom.solvers.search.functions import FUNCTIONS
from gridloom.solvers.search.programs import parse_program
from gridloom.solvers.search.running import run_program

Run = Callable[..., str]
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
TASK = {"train": [{"input": [[1, 2], [0, 3]], "output": [[2, 1], [3, 0]]}], "test": [{"input": [[4, 0], [0, 5]]}]}
MIRROR = "rows 1 * [input]\ncolumns 1 * [input]\nlayer all: input > turn 4\n"


@pytest.fixture
def run(tmp_path: Path, typist: Callable[[Path], Run]) -> Run:
    """Type a command about programs in a folder with a task and a program."""
    (tmp_path / "task.json").write_text(json.dumps(TASK))
    (tmp_path / "mirror.program").write_text(MIRROR)
    return partial(typist(tmp_path), "programs")


def test_a_program_runs_on_a_task_file(run: Run) -> None:
    """The grids of the tests, and how many demonstrations the program reproduces."""
    assert json.loads(run("run", "mirror.program", "task.json", "--json")) == {
        "fits": [True],
        "tests": [[[0, 4], [5, 0]]],
    }
    assert "reproduces 1 of 1 demonstration\n" in run("run", "mirror.program", "task.json")


def test_what_is_no_file_and_no_attempt_is_refused(run: Run, tmp_path: Path) -> None:
    """One message with what is missing; a folder is no program."""
    assert "'mirrored' is no file, and as an attempt: " in run("run", "mirrored", "task.json", code=1)
    (tmp_path / "folder").mkdir()
    assert "'folder' cannot be read" in run("run", "folder", "task.json", code=1)


def test_an_unknown_task_names_the_ways_to_tasks_of_ones_own(run: Run) -> None:
    """The remedy has the file and the option; with the option the source is named alone."""
    shown = " ".join(run("run", "mirror.program", "my_task", code=1).split())
    assert "no task 'my_task'" in shown
    assert "name its file TASK.json, or add --source FOLDER" in shown
    assert "--source FOLDER" not in run("run", "mirror.program", "my_task", "--source", "task.json", code=1)


def test_the_list_has_every_function(run: Run) -> None:
    """Names, types and descriptions, as data."""
    found = json.loads(run("list", "--json"))
    assert [one["name"] for one in found] == [function.name for function in FUNCTIONS]
    assert all(one["description"] for one in found)


def test_every_function_has_a_description_and_a_defined_picture() -> None:
    """No description is of a function that the language lacks."""
    assert set(DESCRIPTIONS) == {function.kernel for function in FUNCTIONS}
    assert all(picture.after is not None for _, picture in pictures())


def test_the_page_has_the_pictures_as_they_are_drawn() -> None:
    """docs/programs.md ends with the list of functions, drawn anew."""
    assert PAGE.endswith(page())


def test_the_program_of_the_page_runs() -> None:
    """The example above the functions is a program, and does what its comment says."""
    text = PAGE.split("## What a program says\n\n")[1].split("\n\n")[0]
    program = parse_program("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    shown = Pair(np.array([[0, 0], [0, 2]], dtype=np.uint8), np.array([[2]], dtype=np.uint8))
    test = np.array([[0, 0, 0], [0, 3, 0], [0, 0, 3]], dtype=np.uint8)
    grid = run_program(program, Task("t", "t", (shown,), (test,))).tests[0]
    assert grid.tolist() == [[3, 3, 3, 4, 4, 4]] * 3 + [[4, 4, 4, 3, 3, 3]] * 3
