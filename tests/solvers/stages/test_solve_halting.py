"""Solving with rows that halt: the record tells the steps that were made, and replays of it give the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
from solve_support import RUN, SOLVER, Place, place

from gridloom.errors import ReplayError
from gridloom.solvers.replay.replay import replay, replay_failed
from gridloom.stores.records import AttemptRecord, TrmStepRecord

HALTS = {**SOLVER, "act_steps": 8, "halt": "unchanged"}


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Place:
    made = place(tmp_path_factory.mktemp("halted") / "place", llama, settings=HALTS)
    made.solve()
    return made


def steps_of(made: Place) -> dict[tuple[str, int], list[TrmStepRecord]]:
    found: dict[tuple[str, int], list[TrmStepRecord]] = {}
    for step in sorted(made.ledger.read(TrmStepRecord, run_id=RUN, fork=0), key=lambda step: step.act_step):
        found.setdefault((step.task_id, step.attempt), []).append(step)
    return found


def test_steps_are_recorded_of_the_rows_that_made_them(halted: Place) -> None:
    attempts = halted.ledger.read(AttemptRecord, run_id=RUN, fork=0)
    assert {(a.plan["halt"], a.plan["patience"]) for a in attempts} == {("unchanged", 1)}
    counts = [[step.num_rows for step in steps] for steps in steps_of(halted).values()]
    rows = [attempt.geometry["rows"] for attempt in attempts]
    assert {count[0] for count in counts} == set(rows)
    assert all(count == sorted(count, reverse=True) and count[-1] >= 1 for count in counts)
    assert any(count[-1] < count[0] or len(count) < 8 for count in counts), "some row halts"


def test_a_solve_that_makes_every_step_says_so(tmp_path: Path) -> None:
    made = Place(tmp_path / "whole", with_llama=False, settings={**SOLVER, "max_attempts": 1})
    made.solve()
    rows = {a.task_id: a.geometry["rows"] for a in made.ledger.read(AttemptRecord, run_id=RUN)}
    for (task_id, _), steps in steps_of(made).items():
        assert {step.num_rows for step in steps} == {rows[task_id]}


def test_every_failed_attempt_replays_bit_equal_and_live_too(halted: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    reports = list(replay_failed(halted.workspace, run_id=RUN))
    assert len(reports) > 3
    assert all(report.equal for report in reports), [str(report) for report in reports if not report.equal]
    monkeypatch.chdir(halted.root)
    assert replay(halted.workspace, "aaaa0001.1", live=True).equal


def test_who_shares_the_batch_changes_no_bit(tmp_path: Path) -> None:
    digests = []
    for in_flight in (1, 3):
        settings = {**HALTS, "in_flight": in_flight, "max_attempts": 1}
        made = Place(tmp_path / str(in_flight), with_llama=False, settings=settings)
        made.solve()
        digests.append({a.attempt_id: a.geometry["digests"] for a in made.ledger.read(AttemptRecord, run_id=RUN)})
    assert digests[0] == digests[1]


def test_a_fork_may_halt_otherwise_or_not_at_all(halted: Place) -> None:
    fork = replay(halted.workspace, "aaaa0001.1", overrides=["halt=none"]).fork_id
    assert fork is not None
    row = halted.ledger.attempt(fork)
    assert row["plan"]["halt"] == "none"
    assert [step["num_rows"] for step in row["trm_steps"]] == [row["geometry"]["rows"]] * 8
    with pytest.raises(ReplayError, match="--set patience=0"):
        replay(halted.workspace, "aaaa0001.1", overrides=["patience=0"])
