"""Export of picks as arc-agi-benchmarking's files, one a task."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest
from progress_support import Reporter
from solve_support import RUN, Place

from gridloom.errors import DataError, GridloomError
from gridloom.runtime.interop.benchmarking import export_benchmarking
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import PickRecord, RunRecord, StageRecord, TaskRecord

Solved = tuple[Place, Artifact, Reporter]


def test_every_task_has_its_picks_with_tokens_and_times(solved: Solved, tmp_path: Path) -> None:
    made, artifact, _ = solved
    assert export_benchmarking(made.workspace, RUN, tmp_path / "out") == 3
    picks = outputs.read_picks(artifact.path)
    for task_id, task in picks.items():
        pairs = json.loads((tmp_path / "out" / f"{task_id}.json").read_text())
        assert [[pair[name]["answer"] for name in sorted(pair)] for pair in pairs] == [
            test["grids"] or [[]] for test in task["tests"]
        ]
        for index, pair in enumerate(pairs):
            told = pair["attempt_1"]["metadata"]
            assert (told["provider"], told["task_id"], told["pair_index"]) == ("gridloom", task_id, index)
            assert datetime.fromisoformat(told["start_timestamp"]) <= datetime.fromisoformat(told["end_timestamp"])
            assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"]
            assert told["usage"]["prompt_tokens"] > 0
            assert told["cost"]["total_cost"] == 0
            assert told["choices"][0]["message"]["role"] == "assistant"


def test_run_that_found_the_solve_cached_exports_what_the_other_made(solved: Solved, tmp_path: Path) -> None:
    made, _, _ = solved
    with LedgerWriter(made.workspace, "later") as writer:
        writer.append(
            RunRecord(run_id="later", name="mini", status="done", started_at=2.0),
            StageRecord(run_id="later", stage="again", kind="solve", key=made.node.key, status="cached"),
        )
    assert export_benchmarking(made.workspace, "later", tmp_path / "out") == 3


def test_folder_that_holds_something_and_unknown_runs_and_stages_are_refused(solved: Solved, tmp_path: Path) -> None:
    made, _, _ = solved
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(GridloomError, match="is there already"):
        export_benchmarking(made.workspace, RUN, tmp_path)
    with pytest.raises(GridloomError, match="unknown run 'nope'"):
        export_benchmarking(made.workspace, "nope", tmp_path / "out")
    with pytest.raises(GridloomError, match="has no solve stage 'slove'"):
        export_benchmarking(made.workspace, RUN, tmp_path / "out", "slove")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("task_id", ["../../up", "{}/abs", "a/b", "nul"])
def test_ids_of_a_ledger_do_not_lead_out_of_the_folder(solved: Solved, tmp_path: Path, task_id: str) -> None:
    """A ledger can hold ids that were recorded before the readers checked them, or a journal from elsewhere."""
    made, _, _ = solved
    task_id = task_id.format(tmp_path)
    run = f"evil {task_id}"
    where = {"run_id": run, "stage": "solve", "task_id": task_id}
    with LedgerWriter(made.workspace, "evil") as writer:
        writer.append(
            RunRecord(run_id=run, name="mini", status="done", started_at=2.0),
            StageRecord(run_id=run, stage="solve", kind="solve", key=f"gl1:{len(task_id)}", status="done"),
            TaskRecord(**where, subset="test", demos=[], check_demos=[], tests=[[[1]]]),
            PickRecord(**where, test_index=0, rank=0, grid=[[1]], weight=1.0, attempt=1, accepted=True, num_attempts=1),
        )
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="task id"):
        export_benchmarking(made.workspace, run, tmp_path / "inner" / "out")
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "inner"] == before
