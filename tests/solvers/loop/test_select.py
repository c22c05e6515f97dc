"""Selection: weights over attempts and views, two distinct grids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gridloom.solvers.loop.select import select
from gridloom.solvers.types import Candidate, FinishedAttempt

A, B, C = [[1]], [[2]], [[3]]


def entry(attempt: int, *ranked: tuple[list[list[int]], int, float], confidence: float = 0.5) -> FinishedAttempt:
    candidates = tuple(
        Candidate(grid=grid, source="trm", votes=votes, num_views=8, confidence=confidence) for grid, votes, _ in ranked
    )
    weights = tuple(weight for _, _, weight in ranked)
    return FinishedAttempt(
        attempt=attempt, candidates=(candidates,), weights=(weights,), score=0.0, accepted=False, feedback=""
    )


def test_votes_are_weighed_by_verifier_score() -> None:
    picks = select([entry(1, (A, 6, 0.3), (B, 2, 1.0))], 1)
    assert [(p.grid, p.rank) for p in picks] == [(B, 0), (A, 1)]
    assert picks[0].weight == 0.25


def test_weights_add_up_over_attempts_and_the_first_proposer_is_named() -> None:
    picks = select([entry(1, (A, 4, 1.0), (B, 3, 1.0)), entry(2, (C, 2, 1.0), (B, 3, 1.0))], 1)
    assert [(p.grid, p.weight, p.attempt) for p in picks] == [(B, 0.75, 1), (A, 0.5, 1)]


def test_ties_go_to_confidence_then_to_the_earlier_attempt() -> None:
    assert select([entry(1, (A, 4, 1.0)), entry(2, (B, 4, 1.0), confidence=0.9)], 1)[0].grid == B
    assert select([entry(1, (A, 4, 1.0)), entry(2, (B, 4, 1.0))], 1)[0].grid == A


def test_nothing_is_made_up_when_there_are_fewer_grids() -> None:
    assert [p.grid for p in select([entry(1, (A, 4, 1.0)), entry(2, (A, 1, 1.0))], 1)] == [A]
    assert select([entry(1)], 1) == ()


@given(st.lists(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 8), st.floats(0, 1)), max_size=3)))
def test_picks_are_distinct_and_heaviest_first(attempts: list[list[tuple[list[list[int]], int, float]]]) -> None:
    picks = select([entry(n, *ranked) for n, ranked in enumerate(attempts, 1)], 1)
    assert len({str(p.grid) for p in picks}) == len(picks) <= 2
    assert [p.weight for p in picks] == sorted((p.weight for p in picks), reverse=True)
