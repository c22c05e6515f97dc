"""`gridloom solve FILE.json`: a task without answers is learnt within a budget by the shipped trunk, then answered."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gridloom.cli.main import make_app
from gridloom.errors import GridloomError
from gridloom.runtime.planning.local import task_overrides
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

MIRROR = {
    "train": [
        {"input": [[1, 0, 0], [2, 0, 0]], "output": [[0, 0, 1], [0, 0, 2]]},
        {"input": [[0, 3, 3], [0, 0, 3]], "output": [[3, 3, 0], [3, 0, 0]]},
        {"input": [[5, 0, 1], [4, 4, 0]], "output": [[1, 0, 5], [0, 4, 4]]},
    ],
    "test": [{"input": [[7, 0, 0], [7, 8, 0]]}],
}


NO_PROGRAM = {
    "train": [
        {"input": [[1, 0, 4], [2, 0, 0]], "output": [[6, 0, 1], [3, 9, 2]]},
        {"input": [[0, 3, 3], [7, 0, 3]], "output": [[8, 5, 0], [3, 1, 4]]},
        {"input": [[5, 0, 1], [4, 4, 0]], "output": [[2, 7, 5], [0, 6, 4]]},
    ],
    "test": [{"input": [[7, 0, 0], [7, 8, 0]]}],
}
"""Task that no program of the search explains."""


def write_task(folder: Path, task: object = MIRROR) -> Path:
    path = folder / "mirror.json"
    path.write_text(json.dumps(task))
    return path


def test_unseen_task_is_learnt_and_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path, NO_PROGRAM)
    done = CliRunner().invoke(make_app("solve"), ["solve", "mirror.json", "--budget", "4s", "--home", "home"])
    assert done.exit_code == 0, done.output
    # the last step may end after the budget; the progress bar shows the time really spent
    spent = re.search(r"^adapt  (\d+)/4 s", done.output, re.MULTILINE)
    assert spent
    assert int(spent[1]) >= 4
    assert "mirror picks" in done.output
    assert "solve  1 task, 1 test input, not scored" in done.output
    submissions = list((tmp_path / "home").glob("artifacts/*/submission.json"))
    assert len(submissions) == 2, "of the search and of the network"
    assert any(f"two grids for each in {submission}" in done.output for submission in submissions)
    ledger = Ledger(Workspace(tmp_path / "home"))
    attempts = ledger.attempts(ledger.latest_run(), stage="solve")
    assert {attempt["task_id"] for attempt in attempts} == {"mirror"}
    assert ledger.query("from metrics where stage = 'adapt' and name = 'loss'").num_rows > 0


def test_a_task_that_a_program_explains_is_not_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path)
    done = CliRunner().invoke(make_app("solve"), ["solve", "mirror.json", "--budget", "60s", "--home", "home", "-q"])
    assert done.exit_code == 0, done.output
    ledger = Ledger(Workspace(tmp_path / "home"))
    (found,) = ledger.attempts(ledger.latest_run(), stage="search")
    assert found["verdict"] == "accepted"
    steps = ledger.rows("select max(step) as most from metrics where stage = 'adapt' and name = 'loss'")
    assert steps[0]["most"] == 1, "no minute is spent on it"


def test_a_task_whose_answer_is_told_is_scored_by_it_and_never_learns_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = [[0, 0, 7], [0, 8, 7]]
    write_task(tmp_path, {**MIRROR, "test": [{**MIRROR["test"][0], "output": answer}]})
    done = CliRunner().invoke(make_app("solve"), ["solve", "mirror.json", "--budget", "1s", "--home", "home", "-q"])
    assert done.exit_code == 0, done.output
    assert "1 task, 1 test input" in done.output
    assert "pass@2" in done.output
    assert "not scored" not in done.output
    (seen,) = (tmp_path / "home").glob("artifacts/*/tasks.json")
    told = seen.read_text().replace(" ", "")
    demo, test = MIRROR["train"][0]["output"], answer  # type: ignore[index]
    assert json.dumps(demo, separators=(",", ":")) in told
    assert json.dumps(test, separators=(",", ":")) not in told


@pytest.mark.parametrize(
    ("budget", "message"), [("soon", "--budget 'soon' is not a duration"), ("0s", "--budget 0s leaves no time")]
)
def test_budget_that_is_no_time_is_refused(budget: str, message: str) -> None:
    with pytest.raises(GridloomError, match=message):
        task_overrides("mirror.json", budget)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({**MIRROR, "train": []}, "has no demonstrations"),
        ({**MIRROR, "test": [{"input": [[0] * 31]}]}, "31"),
        ({**MIRROR, "test": [{"input": [[12]]}]}, "12"),
        ([1, 2], "mirror.json"),
    ],
)
def test_damaged_task_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: object, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_task(tmp_path, task)
    with pytest.raises(GridloomError) as caught:
        CliRunner().invoke(make_app("solve"), ["solve", "mirror.json", "--home", "home"], catch_exceptions=False)
    assert message in str(caught.value)
    assert not (tmp_path / "home").exists()


def test_budget_is_for_task_files(tmp_path: Path) -> None:
    with pytest.raises(GridloomError, match="--budget is for a task file"):
        CliRunner().invoke(make_app("solve"), ["solve", "quickstart", "--budget", "5s"], catch_exceptions=False)
