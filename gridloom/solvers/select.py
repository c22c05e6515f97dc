"""Choose the final grids: votes weighed by verifier score, over views and attempts; two distinct ones a test input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gridloom.solvers.types import Entry, GridRows, Pick

NUM_PICKS = 2
"""Grids a test input, as ARC allows."""


@dataclass(slots=True)
class _Tally:
    grid: GridRows
    attempt: int
    weight: float = 0.0
    confidence: float = 0.0


def select(history: Sequence[Entry], num_tests: int) -> tuple[Pick, ...]:
    """Return up to two distinct grids for each test input, heaviest first.

    A grid weighs, summed over the attempts, its share of the views times its verifier score. Text grids of the LLaMA
    count as one view. Ties go to the higher confidence, then to the earlier attempt. Fewer than two distinct grids
    give fewer picks; nothing is made up.
    """
    picks = []
    for test_index in range(num_tests):
        tallies: dict[tuple[tuple[int, ...], ...], _Tally] = {}
        for entry in history:
            ranked = zip(entry.candidates[test_index], entry.weights[test_index], strict=True)
            for candidate, weight in ranked:
                key = tuple(map(tuple, candidate.grid))
                tally = tallies.setdefault(key, _Tally(candidate.grid, entry.attempt))
                tally.weight += weight * candidate.votes / max(candidate.num_views, 1)
                tally.confidence = max(tally.confidence, candidate.confidence or 0.0)
        best = sorted(tallies.values(), key=lambda t: (-t.weight, -t.confidence, t.attempt))
        for rank, tally in enumerate(best[:NUM_PICKS]):
            picks.append(
                Pick(test_index=test_index, rank=rank, grid=tally.grid, weight=tally.weight, attempt=tally.attempt)
            )
    return tuple(picks)
