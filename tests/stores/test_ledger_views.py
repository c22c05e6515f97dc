"""The views: what they say of a small run, before and after it is scored."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
from store_cases import RIGHT, WRONG, attempt, call, pick, score, scores, small_run, start, task

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, MetricRecord, Record, RunRecord, StageRecord
from gridloom.stores.workspace import Workspace


def record(workspace: Workspace, *records: Record) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*records)


def solved(ledger: Ledger) -> dict[str, bool | None]:
    return {row["attempt_id"]: row["solved"] for row in ledger.rows("SELECT attempt_id, solved FROM v_attempts")}


def by_task(ledger: Ledger, view: str) -> dict[str, dict[str, Any]]:
    return {row["task_id"]: row for row in ledger.rows(f"FROM {view}")}


def test_before_scoring_nothing_is_known_to_be_solved(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, *small_run())
    assert set(solved(ledger).values()) == {None}
    failed = by_task(ledger, "v_failed")
    assert set(failed) == {"bbbb0002", "cccc0003"}  # not accepted by the verifier
    assert failed["bbbb0002"]["best_verdict"] == "palette rule broken"
    assert failed["cccc0003"]["best_verdict"] == "shape rule broken: 2x2 shown 3x3"
    assert (failed["bbbb0002"]["attempts"], failed["bbbb0002"]["best_score"]) == (2, 0.6)
    assert failed["bbbb0002"]["best_attempt_id"] == "bbbb0002.2"
    assert failed["bbbb0002"]["cell_accuracy"] is None
    (row,) = ledger.rows("FROM v_leaderboard")
    assert (row["pass1"], row["pass2"], row["scored_tasks"], row["accepted_tasks"]) == (None, None, 0, 1)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["scored in the run", "scored by a later run"])
def test_after_scoring_every_view_knows(workspace: Workspace, ledger: Ledger, elsewhere: bool) -> None:
    record(workspace, *small_run(), *(scores("run-2", solved_by="run-1") if elsewhere else scores()))
    assert solved(ledger) == {
        "aaaa0001.1": False,
        "aaaa0001.2": True,
        "bbbb0002.1": False,
        "bbbb0002.2": False,
        "cccc0003.1": False,  # its first test is right, its second is not
    }
    tasks = by_task(ledger, "v_tasks")
    assert {name: (row["solved"], row["solved_first"]) for name, row in tasks.items()} == {
        "aaaa0001": (True, False),
        "bbbb0002": (False, False),
        "cccc0003": (False, False),
    }
    assert tasks["cccc0003"]["pass1"] == 0.5
    assert tasks["cccc0003"]["cell_accuracy"] == pytest.approx((1.0 + 0.75) / 2)
    assert (tasks["aaaa0001"]["demos"], tasks["cccc0003"]["tests"]) == (2, 2)
    assert by_task(ledger, "v_failed").keys() == {"bbbb0002", "cccc0003"}
    (row,) = ledger.rows("FROM v_leaderboard")
    assert (row["tasks"], row["test_inputs"], row["scored_tasks"], row["solved_tasks"]) == (3, 4, 3, 1)
    assert row["pass2"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert row["pass1"] == pytest.approx((0 + 0 + 0.5) / 3)
    assert (row["attempts"], row["llm_tokens"], row["seconds"]) == (5, 480, pytest.approx(2.0))
    assert (row["run_id"], row["name"], row["checkpoint_key"]) == ("run-1", "quickstart", "gl1:c4")


def test_an_attempt_whose_grid_no_pick_holds_stays_unknown_until_a_right_pick_tells(
    workspace: Workspace, ledger: Ledger
) -> None:
    other = [[9]]
    record(
        workspace,
        task("aaaa0001"),
        attempt("aaaa0001", 1, grids=[other]),
        attempt("aaaa0001", 2, grids=[WRONG]),
        pick("aaaa0001", 0, WRONG),
        score("aaaa0001", 0, False),
    )
    assert solved(ledger) == {"aaaa0001.1": None, "aaaa0001.2": False}
    record(workspace, pick("aaaa0001", 1, RIGHT), score("aaaa0001", 1, True))
    assert solved(ledger) == {"aaaa0001.1": False, "aaaa0001.2": False}


def test_attempts_without_a_grid_or_a_call_are_shown(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, task("aaaa0001"), attempt("aaaa0001", 1, grids=[[]], score=None, feedback=""))
    (row,) = ledger.rows("FROM v_attempts")
    assert (row["llm_tokens"], row["score"], row["trm_steps"]) == (None, None, None)
    # its nodes worked 0.3 and 0.1 s; the rest it waited
    assert (row["seconds"], row["elapsed_s"]) == (pytest.approx(0.4), 0.5)
    (row,) = ledger.rows("FROM v_failed")
    assert row["best_verdict"] == "rejected"


def test_forks_are_attempts_but_count_in_no_total(workspace: Workspace, ledger: Ledger) -> None:
    record(
        workspace,
        *small_run(),
        attempt("bbbb0002", 1, fork=1, parent="bbbb0002.1", verdict="accepted", score=1.0),
    )
    assert len(ledger.rows("FROM v_attempts WHERE fork = 1")) == 1
    assert by_task(ledger, "v_tasks")["bbbb0002"]["attempts"] == 2
    assert "bbbb0002" in by_task(ledger, "v_failed")
    assert ledger.runs()[0]["attempts"] == 5


def test_a_task_without_an_attempt_has_not_failed(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, task("dddd0004"))
    assert by_task(ledger, "v_failed") == {}
    assert by_task(ledger, "v_tasks")["dddd0004"]["attempts"] == 0


def test_the_latest_value_of_every_metric(workspace: Workspace, ledger: Ledger) -> None:
    record(
        workspace,
        *(
            MetricRecord(run_id="run-1", stage="pretrain", step=step, name=name, value=step * scale, recorded_at=step)
            for step in (1, 30, 20)
            for name, scale in (("loss", 1.0), ("lr", 0.5))
        ),
    )
    rows = ledger.rows("SELECT name, step, value FROM v_metrics_latest ORDER BY name")
    assert rows == [{"name": "loss", "step": 30, "value": 30.0}, {"name": "lr", "step": 30, "value": 15.0}]


def test_runs_are_listed_with_their_stages_and_counts(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, *small_run())
    (row,) = ledger.runs()
    assert (row["status"], row["seconds"], row["stages"], row["cached"], row["tasks"], row["attempts"]) == (
        "done",
        60.0,
        2,
        1,
        3,
        5,
    )


START = """
writer = LedgerWriter(workspace, 'run-1')
import socket
writer.append(RunRecord(run_id='run-1', status='started', host=socket.gethostname(), pid=os.getpid(), started_at=1.0))
print('on', flush=True)
time.sleep(60)
"""


def test_a_started_run_is_crashed_once_its_process_is_dead(workspace: Workspace, ledger: Ledger) -> None:
    process = start(workspace.root, START)
    assert process.stdout is not None
    process.stdout.readline()
    assert [row["status"] for row in ledger.runs()] == ["started"]
    process.kill()
    process.wait()
    assert [row["status"] for row in ledger.runs()] == ["crashed"]
    assert [row["status"] for row in ledger.rows("FROM runs")] == ["started"]  # what was recorded stays as it was
    for path in workspace.journal_dir.iterdir():
        path.unlink()
    assert [row["status"] for row in ledger.runs()] == ["crashed"]  # then the pid tells


def test_a_started_run_of_another_machine_is_left_as_it_is(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, RunRecord(run_id="run-1", status="started", host="elsewhere", pid=1, started_at=1.0))
    assert [row["status"] for row in ledger.runs()] == ["started"]


def test_a_resumed_run_is_alive_though_its_first_process_is_dead(workspace: Workspace, ledger: Ledger) -> None:
    here = {"run_id": "run-1", "status": "started", "host": socket.gethostname(), "pid": os.getpid()}
    record(workspace, RunRecord(**here, started_at=1.0))  # type: ignore[arg-type]
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(RunRecord(**here, started_at=2.0))  # type: ignore[arg-type]
        assert [row["status"] for row in ledger.runs()] == ["started"]
    assert [row["status"] for row in ledger.runs()] == ["crashed"]


def test_the_latest_run_is_the_newest_that_made_attempts_itself(workspace: Workspace, ledger: Ledger) -> None:
    record(
        workspace,
        *small_run(),
        RunRecord(run_id="run-0", status="done", started_at=5.0),
        StageRecord(run_id="run-0", stage="solve", kind="solve", status="done"),
        RunRecord(run_id="run-9", status="done", started_at=1e10),
        StageRecord(run_id="run-9", stage="solve", kind="solve", status="cached"),
    )
    assert ledger.latest_run() == "run-1"


def test_failed_attempts_are_those_wrong_by_the_score_or_not_accepted(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, *small_run(), attempt("bbbb0002", 3, grids=[WRONG], verdict="accepted"))

    def failed() -> list[str]:
        return [row["attempt_id"] for row in ledger.attempts("run-1", failed=True)]

    assert failed() == ["aaaa0001.1", "bbbb0002.1", "bbbb0002.2", "cccc0003.1"]
    record(workspace, *scores())
    assert failed() == ["aaaa0001.1", "bbbb0002.1", "bbbb0002.2", "bbbb0002.3", "cccc0003.1"]
    assert len(ledger.attempts("run-1", task_id="aaaa0001")) == 2
    assert len(ledger.attempts(limit=1)) == 1
    assert ledger.attempts("no such run") == []
    assert ledger.attempts(stage="other") == []


def test_the_attempts_a_resumed_solve_skips_are_those_of_the_loop(workspace: Workspace, ledger: Ledger) -> None:
    records = small_run()
    record(workspace, *records, attempt("bbbb0002", 1, fork=1), attempt(run_id="run-2"), call())
    expected = [record for record in records if isinstance(record, AttemptRecord)]
    assert ledger.recorded_attempts("run-1", "solve") == expected
    assert ledger.recorded_attempts("run-1", "other") == []


def test_a_page_of_attempts_has_the_first_of_all_and_their_number(workspace: Workspace, ledger: Ledger) -> None:
    record(workspace, *small_run(), *scores(), attempt("bbbb0002", 1, fork=1), attempt(run_id="run-0"))
    for failed in (False, True):
        every = ledger.attempts("run-1", failed=failed)
        page = ledger.attempt_page("run-1", failed=failed, limit=2)
        assert (page.rows, page.total) == (every[:2], len(every))
        assert ledger.attempt_page("run-1", failed=failed).rows == every
        of_task = ledger.attempt_page("run-1", stage="solve", task_id="bbbb0002", failed=failed, limit=1)
        assert of_task.total == len(ledger.attempts("run-1", task_id="bbbb0002", failed=failed))
    assert ledger.attempt_page("run-1", stage="other").total == 0
    assert ledger.attempt_page("run-1", limit=0).rows == []
