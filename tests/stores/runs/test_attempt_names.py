"""Names of attempts: unique in a ledger, resolved by prefix, stage or run, and refused where several match."""

from __future__ import annotations

import re

import pytest
from store_cases import attempt, small_run

from gridloom.errors import GridloomError, ReplayError, StoreError
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import RunRecord
from gridloom.stores.runs.names import MIN_PLACE, find_run, place_of, refuse_unknown
from gridloom.stores.workspace import Workspace


@pytest.fixture
def filled(workspace: Workspace, ledger: Ledger) -> Ledger:
    """Two runs with the same tasks; the second with two solve stages."""
    for run_id in ("run-1", "run-2"):
        with LedgerWriter(workspace, run_id) as writer:
            writer.append(*small_run(run_id))
    with LedgerWriter(workspace, "run-2") as writer:
        writer.append(attempt("aaaa0001", 1, run_id="run-2", stage="other@1", text="of the other stage"))
        writer.append(attempt("only.one@x", 1, run_id="run-2", stage="other@1"))
    return ledger


def test_every_name_is_unique_and_means_its_attempt(filled: Ledger) -> None:
    rows = filled.attempts()
    assert len({row["name"] for row in rows}) == len(rows) == 12
    assert len({row["attempt_id"] for row in rows}) == 6
    for row in rows:
        found = filled.attempt(row["name"])
        assert [found[key] for key in ("run_id", "stage", "attempt_id")] == [
            row[key] for key in ("run_id", "stage", "attempt_id")
        ]
        assert found["name"] == row["name"]
        assert row["name"] == f"{row['attempt_id']}@{place_of(row['run_id'], row['stage'])}"


def test_places_grow_until_they_differ(filled: Ledger, workspace: Workspace) -> None:
    seen: dict[str, str] = {}
    for number in range(100_000):
        place = place_of(f"r{number}", "solve")
        if place in seen:
            break
        seen[place] = f"r{number}"
    twins = (seen[place], f"r{number}")
    with LedgerWriter(workspace, twins[0]) as writer:
        writer.append(*(attempt("cccc0003", 1, run_id=run_id) for run_id in twins))
    names = [row["name"] for run_id in twins for row in filled.attempts(run_id)]
    assert len(set(names)) == 2
    assert all(len(name.rpartition("@")[2]) > MIN_PLACE for name in names)
    assert [filled.attempt(name)["run_id"] for name in names] == [*twins]
    with pytest.raises(ReplayError, match="2 attempts are called"):
        filled.attempt(f"cccc0003.1@{place}")


@pytest.mark.parametrize(
    ("name", "run_id", "stage"),
    [
        ("aaaa0001.1@run-1", "run-1", "solve"),
        ("aaaa0001.1@other@1", "run-2", "other@1"),
        ("only.one@x.1", "run-2", "other@1"),
        ("only.one@x.1@other@1", "run-2", "other@1"),
        (f"aaaa0001.1@{place_of('run-2', 'solve')[:3]}", "run-2", "solve"),
        (f"aaaa0001.1@{place_of('run-2', 'solve', 64)}", "run-2", "solve"),
    ],
)
def test_a_name_may_have_a_stage_a_run_or_another_length(filled: Ledger, name: str, run_id: str, stage: str) -> None:
    found = filled.attempt(name)
    assert (found["run_id"], found["stage"]) == (run_id, stage)
    whole = filled.whole_attempt(name)
    assert whole.key[:2] == (run_id, stage)


@pytest.mark.parametrize(
    ("run_id", "stage", "number"), [(None, None, 3), ("run-2", None, 2), (None, "solve", 2), ("run-2", "solve", 1)]
)
def test_an_ambiguous_id_lists_its_attempts(filled: Ledger, run_id: str | None, stage: str | None, number: int) -> None:
    if number == 1:
        assert filled.attempt("aaaa0001.1", run_id, stage)["stage"] == stage
        return
    for ask in (filled.attempt, filled.whole_attempt):
        with pytest.raises(ReplayError, match=f"{number} attempts are called 'aaaa0001.1'") as caught:
            ask("aaaa0001.1", run_id, stage)
        listed = re.findall(r"aaaa0001\.1@[0-9a-f]+(?=  run \S+, stage)", caught.value.remedy)
        assert len(listed) == number
        assert len(set(listed)) == number
        found = [filled.attempt(name) for name in listed]
        assert len({(one["run_id"], one["stage"]) for one in found}) == number


def test_runs_stages_and_tasks_that_are_not_there_are_named(filled: Ledger, workspace: Workspace) -> None:
    assert find_run("run-1", filled) == "run-1"
    with LedgerWriter(workspace, "run-9") as writer:
        writer.append(RunRecord(run_id="run-9"))  # a run without attempts is known too
    assert find_run("run-9", filled) == "run-9"
    with pytest.raises(GridloomError, match=r"unknown run 'run-3'\n  did you mean"):
        find_run("run-3", filled)
    refuse_unknown(filled, "run-2", "other@1", "aaaa0001")
    with pytest.raises(GridloomError, match=r"run run-2 has no solve stage 'solv'\n  did you mean 'solve'\?"):
        refuse_unknown(filled, "run-2", "solv", None)
    with pytest.raises(GridloomError, match=r"run run-2 has no task 'aaaa0009'\n  did you mean 'aaaa0001'\?"):
        refuse_unknown(filled, "run-2", None, "aaaa0009")


def test_a_name_or_a_query_that_is_not_utf_8_is_a_message(filled: Ledger) -> None:
    for ask in (
        lambda: filled.whole_attempt("a\udcff"),
        lambda: filled.whole_attempt("a.1", "\udcff"),
        lambda: filled.read(RunRecord, run_id="\udcff"),
        lambda: filled.rows("select '\udcff'"),
    ):
        with pytest.raises(StoreError, match="holds bytes that are not UTF-8"):
            ask()
