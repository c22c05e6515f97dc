"""Votes: how grids are ranked, and when nothing can change any more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.runtime.evaluation.ballots import Ballots

GRIDS = [np.full((1, 1 + number), number, dtype=np.uint8) for number in range(4)]
ANSWERS = st.tuples(st.integers(-1, 3), st.floats(0, 1))
"""Which grid a view gives (-1: none), and its halting probability."""


def cast(ballots: Ballots, answers: list[tuple[int, float]]) -> Ballots:
    for number, halting in answers:
        ballots.add(None if number < 0 else GRIDS[number], halting)
    return ballots


def first_two(ballots: Ballots) -> list[bytes]:
    return [standing.grid.tobytes() for standing in ballots.ranked()[:2]]


def test_count_beats_confidence_which_breaks_ties() -> None:
    ballots = cast(Ballots(6), [(0, 0.9), (1, 0.2), (1, 0.2), (2, 0.5), (-1, 1.0)])
    assert [(s.votes, s.grid.shape[1] - 1) for s in ballots.ranked()] == [(2, 1), (1, 0), (1, 2)]
    assert ballots.ranked()[1].confidence == 0.9
    assert ballots.num_left == 1, "a view without a grid has been asked all the same"


def test_views_without_a_grid_leave_no_candidates() -> None:
    ballots = cast(Ballots(2), [(-1, 0.5), (-1, 0.5)])
    assert ballots.ranked() == []
    assert ballots.is_settled()


@given(st.lists(ANSWERS, max_size=14), st.lists(ANSWERS, max_size=6), st.integers(0, 3))
def test_once_settled_no_further_answers_change_the_two_first(
    before: list[tuple[int, float]], after: list[tuple[int, float]], unused: int
) -> None:
    ballots = cast(Ballots(len(before) + len(after) + unused), before)
    if ballots.is_settled():
        settled = first_two(ballots)
        assert first_two(cast(ballots, after)) == settled


@pytest.mark.parametrize(
    ("votes", "left", "settled"),
    [
        ((5, 2), 1, True),
        ((5, 2), 2, False),
        ((5, 3, 1), 1, True),
        ((5, 3, 2), 1, False),
        ((3, 2, 0), 1, False),
        ((7,), 1, False),
        ((2, 2), 0, True),
    ],
)
def test_a_place_is_safe_that_leads_the_next_by_more_than_is_left(
    votes: tuple[int, ...], left: int, settled: bool
) -> None:
    ballots = Ballots(sum(votes) + left)
    assert cast(ballots, [(number, 0.5) for number, times in enumerate(votes) for _ in range(times)]).num_left == left
    assert ballots.is_settled() is settled


@given(st.lists(ANSWERS, max_size=14), st.lists(ANSWERS, max_size=6), st.integers(0, 3))
def test_what_stops_at_the_first_place_keeps_it(
    before: list[tuple[int, float]], after: list[tuple[int, float]], unused: int
) -> None:
    ballots = cast(Ballots(len(before) + len(after) + unused), before)
    settled = [ballots.is_settled(stop) for stop in ("exact", "first", "likely")]
    assert settled == sorted(settled), "what settles both places settles the first, and what settles it is likely"
    if settled[1]:
        first = first_two(ballots)[:1]
        assert first_two(cast(ballots, after))[:1] == first


@pytest.mark.parametrize(
    ("votes", "left", "settled"),
    [((7,), 100, False), ((12,), 100, True), ((12, 10), 100, False), ((60, 20), 900, True), ((4, 4, 4), 1, False)],
)
def test_a_first_place_is_likely_safe_when_its_lead_is_foreseen_to_last(
    votes: tuple[int, ...], left: int, settled: bool
) -> None:
    ballots = Ballots(sum(votes) + left)
    cast(ballots, [(number, 0.5) for number, times in enumerate(votes) for _ in range(times)])
    assert ballots.is_settled("likely") is settled
    assert not ballots.is_settled("first")


def test_likely_is_seldom_wrong() -> None:
    """Of votes drawn with known shares, the place that stopped them is nearly always the first of all of them."""
    generator = np.random.default_rng(0)
    wrong = stopped = 0
    for _ in range(400):
        drawn = generator.choice(4, size=128, p=generator.dirichlet((2.0, 1.0, 1.0, 0.5)))
        ballots = Ballots(128)
        for number in drawn:
            cast(ballots, [(int(number), 0.5)])
            if ballots.is_settled("likely"):
                break
        if ballots.num_left:
            stopped += 1
            wrong += int(np.bincount(drawn).argmax() != ballots.ranked()[0].grid.flat[0])
    assert stopped > 200
    assert wrong <= stopped // 50
