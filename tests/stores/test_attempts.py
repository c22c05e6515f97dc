"""One attempt by its id: everything that was recorded, or the nearest ids."""

from __future__ import annotations

import pytest
from store_cases import attempt, small_run, task

from gridloom.errors import ReplayError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import CandidateRecord, LlmCallRecord, RunRecord, TrmStepRecord, VerdictRecord, as_dict
from gridloom.stores.workspace import Workspace


@pytest.fixture
def filled(workspace: Workspace, ledger: Ledger) -> Ledger:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(*small_run())
    return ledger


def test_an_attempt_comes_with_every_recorded_field(filled: Ledger) -> None:
    found = filled.attempt("aaaa0001.2")
    records = small_run()
    (recorded,) = [r for r in records if getattr(r, "attempt_id", None) == "aaaa0001.2"]
    assert {name: found[name] for name in as_dict(recorded)} == as_dict(recorded)
    assert found["task"] == as_dict(task("aaaa0001"))
    assert found["candidates"] == [as_dict(r) for r in records if isinstance(r, CandidateRecord)]
    assert found["trm_steps"] == [as_dict(r) for r in records if isinstance(r, TrmStepRecord)]
    assert sorted(v["verifier"] for v in found["verdicts"]) == ["form", "leave_one_out"]
    assert len([r for r in records if isinstance(r, VerdictRecord)]) == 2
    (call,) = [r for r in records if isinstance(r, LlmCallRecord) and (r.task_id, r.attempt) == ("aaaa0001", 2)]
    assert found["llm_call"] == as_dict(call)
    assert found["solved"] is None


def test_an_attempt_without_a_call_or_steps_says_so(filled: Ledger) -> None:
    found = filled.attempt("cccc0003.1")
    assert found["llm_call"] is None
    assert found["trm_steps"] == []


def test_a_fork_is_found_by_its_own_id(filled: Ledger, workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        writer.append(attempt("aaaa0001", 2, fork=1, parent="aaaa0001.2", text="forked"))
    assert filled.attempt("aaaa0001.2+1")["text"] == "forked"
    assert filled.attempt("aaaa0001.2")["fork"] == 0


def test_of_several_runs_one_is_named(filled: Ledger, workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-2") as writer:
        writer.append(
            RunRecord(run_id="run-2", started_at=2e9),
            attempt("aaaa0001", 1, run_id="run-2", started_at=2e9, text="new"),
        )
    with pytest.raises(ReplayError, match="2 attempts are called"):
        filled.attempt("aaaa0001.1")
    assert filled.attempt("aaaa0001.1", "run-2")["text"] == "new"
    assert filled.attempt("aaaa0001.1", "run-1")["run_id"] == "run-1"


@pytest.mark.parametrize(
    ("attempt_id", "run_id", "message", "remedy"),
    [
        ("aaaa0001.7", None, "unknown attempt 'aaaa0001.7'", "recorded for aaaa0001: aaaa0001.1, aaaa0001.2"),
        ("aaab0001.2", None, "unknown attempt 'aaab0001.2'", "did you mean aaaa0001.2"),
        ("aaaa0001.1", "run-7", "unknown attempt 'aaaa0001.1' in run run-7", "`gridloom attempts`"),
        ("?", None, "unknown attempt '?'", "`gridloom attempts`"),
    ],
)
def test_an_unknown_attempt_is_answered_with_what_there_is(
    filled: Ledger, attempt_id: str, run_id: str | None, message: str, remedy: str
) -> None:
    with pytest.raises(ReplayError) as caught:
        filled.attempt(attempt_id, run_id)
    assert caught.value.message == message
    assert remedy in caught.value.remedy
