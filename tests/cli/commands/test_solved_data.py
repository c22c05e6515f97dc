"""`solve --json` on a recorded workspace: all is cached, and the data is what the ledger and the reports hold."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import gridloom

ARCHIVE = Path(gridloom.__file__).parents[1] / "tests" / "compatibility" / "workspace-d473133.tar.gz"


def test_a_solve_prints_stages_picks_and_reports_as_data(
    tmp_path: Path, typist: Callable[[Path], Callable[..., str]]
) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    type_ = typist(tmp_path)
    refused = type_("solve", "whole.yaml", "--json", "--submission", "picks.json", code=1)
    assert "3 solve stages made picks" in refused
    data = json.loads(type_("solve", "whole.yaml", "--json"))
    assert {stage["status"] for stage in data["stages"]} == {"cached"}
    assert [(task["stage"], task["task_id"]) for task in data["tasks"]][3:6] == [
        ("solve", "0b0b0001"),
        ("solve", "0b0b0002"),
        ("solve", "0b0b0003"),
    ]
    solved = {task["task_id"]: task for task in data["tasks"] if task["stage"] == "solve"}
    artifact = next(Path(stage["path"]) for stage in data["stages"] if stage["stage"] == "solve")
    submitted = json.loads((artifact / "submission.json").read_text())
    for name, task in solved.items():
        firsts = [pick["grid"] for pick in task["picks"] if pick["rank"] == 0]
        assert firsts == [test["attempt_1"] for test in submitted[name]]
    assert [solved[name]["solved"] for name in sorted(solved)] == [True, False, False]
    assert data["reports"]["score"]["pass2"] == 1 / 3
    assert "this process" in type_("solve", "whole.yaml", "--json", "--on", "torchrun:2", code=1)
