"""Selection of the final grids: votes weighted by verifier score over views and attempts, two grids per test input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gridloom.runtime.data.files.grids import GridRows
from gridloom.solvers.types import FinishedAttempt, Pick

NUM_PICKS = 2
"""Number of grids per test input, as ARC allows."""


@dataclass(slots=True)
class _Tally:
    grid: GridRows
    attempt: int
    weight: float = 0.0
    confidence: float = 0.0


def select(history: Sequence[FinishedAttempt], num_tests: int) -> tuple[Pick, ...]:
    """Return up to two distinct grids for each test input, by descending weight.

    The weight of a grid is its share of the views times its verifier score, summed over the attempts. Text grids of the
    LLaMA count as one view. Ties go to the higher confidence, then to the earlier attempt. With fewer than two distinct
    grids there are fewer picks.
    """
    picks = []
    for test_index in range(num_tests):
        for rank, tally in enumerate(_ranked(history, test_index)[:NUM_PICKS]):
            picks.append(
                Pick(test_index=test_index, rank=rank, grid=tally.grid, weight=tally.weight, attempt=tally.attempt)
            )
    return tuple(picks)


def is_accepted(history: Sequence[FinishedAttempt], num_tests: int) -> bool:
    """Return whether a task is accepted: an attempt at all its test inputs is, or one at each of them."""
    return accepts_task([(entry.only, entry.accepted) for entry in history], num_tests)


def accepts_task(judged: Sequence[tuple[int | None, bool]], num_tests: int) -> bool:
    """Return whether attempts accept a task.

    Args:
        judged: the attempt's only test input, or None for all test inputs, and whether the attempt is accepted.
    """
    accepted = {only for only, is_right in judged if is_right}
    return None in accepted or (bool(accepted) and accepted.issuperset(range(num_tests)))


def is_settled(history: Sequence[FinishedAttempt], num_tests: int, remaining: int) -> bool:
    """Return whether `remaining` more attempts cannot change the picks or their order.

    An attempt adds a weight of at most 1 to the grids of a test input together, and at most 1 more to the LLaMA's grid.
    """
    gain = remaining * (2.0 if any(entry.llm_tokens for entry in history) else 1.0)
    for test_index in range(num_tests):
        weights = [tally.weight for tally in _ranked(history, test_index)] + [0.0] * (NUM_PICKS + 1)
        if any(higher - lower <= gain for higher, lower in pairwise(weights[: NUM_PICKS + 1])):
            return False
    return True


def _ranked(history: Sequence[FinishedAttempt], test_index: int) -> list[_Tally]:
    """Return the distinct grids of a test input, by descending weight."""
    tallies: dict[tuple[tuple[int, ...], ...], _Tally] = {}
    for entry in history:
        for candidate, weight in zip(entry.candidates[test_index], entry.weights[test_index], strict=True):
            key = tuple(map(tuple, candidate.grid))
            tally = tallies.setdefault(key, _Tally(candidate.grid, entry.attempt))
            tally.weight += weight * candidate.votes / max(candidate.num_views, 1)
            tally.confidence = max(tally.confidence, candidate.confidence or 0.0)
    return sorted(tallies.values(), key=lambda t: (-t.weight, -t.confidence, t.attempt))
