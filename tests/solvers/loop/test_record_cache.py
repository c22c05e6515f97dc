"""Record cache of the loop: a new record is returned as it is, restored data is validated."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from gridloom.solvers.loop.record_cache import RecordCache
from gridloom.solvers.types import FinishedAttempt, LoopState, Plan


def entry(number: int) -> FinishedAttempt:
    return FinishedAttempt(attempt=number, candidates=(), weights=(), score=0.5, accepted=False, feedback="")


def test_data_that_was_dumped_gives_the_same_record_and_restored_data_an_equal_one() -> None:
    cache = RecordCache()
    plan = Plan(attempt=1, seed=7)
    data = cache.dump(plan)
    assert cache.record(Plan, data) is plan
    restored = cache.record(Plan, copy.deepcopy(data))
    assert restored == plan
    assert restored is not plan
    with pytest.raises(ValidationError):
        cache.record(Plan, {"attempt": "many"})


def test_history_equals_that_of_the_state_after_a_restart_and_after_an_attempt_without_checkpoint() -> None:
    cache = RecordCache()
    first, second = entry(1), entry(2)
    state: LoopState = {"history": [cache.dump_entry(first)]}
    assert cache.history(state) == (first,)
    cache.dump_entry(entry(9))  # a node that ran, and whose checkpoint was never written
    assert cache.history(state) == (first,)
    state = {"history": [*state["history"], cache.dump_entry(second)]}
    assert [one is two for one, two in zip(cache.history(state), (first, second), strict=True)] == [True, True]
    assert RecordCache().history(copy.deepcopy(state)) == (first, second)
    assert cache.history({}) == ()
