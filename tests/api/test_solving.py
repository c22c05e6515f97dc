"""A task solved from Python: a dict, a file, a Task; with its answer held out."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from api_support import tags_of

import gridloom

MIRROR = {
    "train": [
        {"input": [[1, 0, 0], [2, 0, 0]], "output": [[0, 0, 1], [0, 0, 2]]},
        {"input": [[0, 3, 3], [0, 0, 3]], "output": [[3, 3, 0], [3, 0, 0]]},
        {"input": [[5, 0, 1], [4, 4, 0]], "output": [[1, 0, 5], [0, 4, 4]]},
    ],
    "test": [{"input": [[7, 0, 0], [7, 8, 0]], "output": [[0, 0, 7], [0, 8, 7]]}],
}
FAST = {"vars.attempts": 1, "vars.views": 2, "stages.adapt.steps": 1, "data.task.augment.copies": 3}


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, gridloom.SolveResult]:
    """A workspace, and the result of solving the task there from below an event loop, as in a notebook."""
    home = tmp_path_factory.mktemp("api") / "home"

    async def cell() -> gridloom.SolveResult:
        return gridloom.solve(gridloom.Task.from_dict(MIRROR, "mirror"), set=FAST, home=home)

    return home, asyncio.run(cell())


def test_a_task_is_answered(solved: tuple[Path, gridloom.SolveResult]) -> None:
    _, result = solved
    assert [attempt.attempt_id for attempt in result.attempts] == ["mirror.1"]
    assert len(result.picks) == 1
    assert result.grids == tuple(picks[0] if picks else None for picks in result.picks)
    assert result.solved is any(pick == result.task.answers[0] for pick in result.picks[0])
    assert result.accepted is any(attempt.accepted for attempt in result.attempts)
    assert result.run["score"].report["pass2"] == float(result.solved)
    assert tags_of(result._repr_html_()).count("svg") == 2


def test_the_answer_is_held_out(solved: tuple[Path, gridloom.SolveResult]) -> None:
    _, result = solved
    for name in ("task", "adapt", "solve"):
        folder = result.run[name].path
        assert folder is not None
        for file in folder.rglob("*.json*"):
            assert "[[0,0,7],[0,8,7]]" not in file.read_text(encoding="utf-8").replace(" ", "") or name == "solve"
    attempt = result.attempts[0]
    assert attempt.task is not None
    assert attempt.task.answers == ()


def test_a_task_that_was_solved_is_cached_and_its_attempts_are_found(
    solved: tuple[Path, gridloom.SolveResult], capfd: pytest.CaptureFixture[str]
) -> None:
    home, first = solved
    again = gridloom.solve(gridloom.Task.from_dict(MIRROR, "mirror"), set=FAST, home=home)
    assert capfd.readouterr() == ("", "")
    assert {stage.status for stage in again.run.stages} == {"cached"}
    assert again.picks == first.picks
    assert [attempt.attempt_id for attempt in again.attempts] == ["mirror.1"]


def test_a_file_and_a_dict_are_the_same_work(solved: tuple[Path, gridloom.SolveResult], tmp_path: Path) -> None:
    home, first = solved
    file = tmp_path / "with: colon # and hash" / "mirror.json"
    file.parent.mkdir()
    file.write_text(json.dumps(MIRROR))
    again = gridloom.solve(file, set=FAST, home=home)
    assert again.run["adapt"].status == "cached"
    assert again.task == first.task


@pytest.mark.parametrize("task_id", ["a/b", "", "nul\0", "half \ud800"])
def test_a_task_id_that_is_no_file_name_is_refused(task_id: str, tmp_path: Path) -> None:
    with pytest.raises(gridloom.DataError, match="no plain name"):
        gridloom.solve(gridloom.Task.from_dict(MIRROR, task_id), home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_what_is_no_task_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(gridloom.DataError, match="12"):
        gridloom.solve({**MIRROR, "test": [{"input": [[12]]}]}, home=tmp_path / "home")
    with pytest.raises(gridloom.DataError, match=r"none\.json"):
        gridloom.solve(tmp_path / "none.json", home=tmp_path / "home")
    with pytest.raises(gridloom.GridloomError, match="leaves no time"):
        gridloom.solve(MIRROR, budget=0, home=tmp_path / "home")
    assert ET.fromstring(gridloom.Task.from_dict(MIRROR)._repr_svg_()) is not None
