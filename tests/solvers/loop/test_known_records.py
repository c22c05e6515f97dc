"""Records beside the plain data of the state: what was just made is given back, what was restored is validated."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from gridloom.solvers.loop.known_records import Known
from gridloom.solvers.types import FinishedAttempt, LoopState, Plan


def entry(number: int) -> FinishedAttempt:
    return FinishedAttempt(attempt=number, candidates=(), weights=(), score=0.5, accepted=False, feedback="")


def test_data_that_was_dumped_gives_the_same_record_and_restored_data_an_equal_one() -> None:
    known = Known()
    plan = Plan(attempt=1, seed=7)
    data = known.dump(plan)
    assert known.record(Plan, data) is plan
    restored = known.record(Plan, copy.deepcopy(data))
    assert restored == plan
    assert restored is not plan
    with pytest.raises(ValidationError):
        known.record(Plan, {"attempt": "many"})


def test_history_is_that_of_the_state_after_a_restart_and_after_attempts_that_came_to_nothing() -> None:
    known = Known()
    first, second = entry(1), entry(2)
    state: LoopState = {"history": [known.dump_entry(first)]}
    assert known.history(state) == (first,)
    known.dump_entry(entry(9))  # a node that ran, and whose checkpoint was never written
    assert known.history(state) == (first,)
    state = {"history": [*state["history"], known.dump_entry(second)]}
    assert [one is two for one, two in zip(known.history(state), (first, second), strict=True)] == [True, True]
    assert Known().history(copy.deepcopy(state)) == (first, second)
    assert known.history({}) == ()
