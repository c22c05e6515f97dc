"""Votes of many views on one test input: most votes first, then the mean halting probability, then the earlier view."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gridloom.runtime.data.tasks import Grid
from gridloom.specs.stages import EarlyStop

LIKELY = 3.0
"""Standard deviations by which a first place must be ahead to be taken for settled."""
FEWEST = 8
"""Views that are cast before anything is foreseen from them."""


def rank(votes: int, confidence: float) -> tuple[int, float]:
    """Return what sorts candidates, best first; a stable sort leaves equals in the order of their first views."""
    return -votes, -confidence


@dataclass(slots=True)
class Standing:
    """A grid and who voted for it."""

    grid: Grid
    votes: int = 0
    halting: float = 0.0
    """Sum of the halting probabilities of its votes."""

    @property
    def confidence(self) -> float:
        """Mean halting probability of the views that voted for it."""
        return self.halting / self.votes


@dataclass(slots=True)
class Ballots:
    """The votes on one test input so far."""

    num_views: int
    """Views that may vote in all."""
    num_cast: int = 0
    """Views that have run, those whose answer is no grid among them."""
    _standings: dict[bytes, Standing] = field(default_factory=dict)

    def add(self, grid: Grid | None, halting: float) -> None:
        """Count the answer of one more view: a grid, or None where its tokens hold none. `halting` is in [0, 1]."""
        self.num_cast += 1
        if grid is None:
            return
        standing = self._standings.setdefault(bytes(grid.shape) + grid.tobytes(), Standing(grid))
        standing.votes += 1
        standing.halting += halting

    def ranked(self) -> list[Standing]:
        """Return the grids, best first."""
        return sorted(self._standings.values(), key=lambda standing: rank(standing.votes, standing.confidence))

    @property
    def num_left(self) -> int:
        """Views that have not run."""
        return self.num_views - self.num_cast

    def is_settled(self, stop: EarlyStop = "exact") -> bool:
        """Whether the views that are left need not run.

        exact: they could change neither the two first grids nor their order. All of them could vote for one grid, seen
        or not, so each place must lead the next by more than they are.
        first: they could not change the first grid.
        likely: they would hardly change it. With n1 and n2 votes for the first two of m views cast and l left, the lead
        is foreseen as (n1 - n2) (1 + l/m) with a variance of at most (n1 + n2 + 1) l/m (1 + l/m), the posterior
        predictive of as many draws from a Dirichlet-multinomial; it must be more than `LIKELY` deviations from 0.
        """
        left = self.num_left
        if left == 0:
            return True
        first, second, third = ([standing.votes for standing in self.ranked()[:3]] + [0, 0, 0])[:3]
        lead = first - second
        if lead > left:
            return stop != "exact" or second - third > left
        if stop != "likely" or self.num_cast < FEWEST:
            return False
        ratio = left / self.num_cast
        return lead * (1 + ratio) > LIKELY * math.sqrt((first + second + 1) * ratio * (1 + ratio))
