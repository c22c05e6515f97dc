"""Votes of views on a test input, ranked by number of votes, then mean halting probability, then earlier view."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from gridloom.runtime.data.tasks import Grid
from gridloom.specs.stages import EarlyStop

LIKELY = 3.0
"""Lead in standard deviations from which `likely` treats the first place as decided."""
FEWEST = 8
"""Minimum number of votes for the prediction of `likely`."""


def rank(votes: int, confidence: float) -> tuple[int, float]:
    """Return the sort key of a candidate, best first; a stable sort keeps equal candidates in order of first view."""
    return -votes, -confidence


@dataclass(slots=True)
class Standing:
    """Candidate grid with its votes."""

    grid: Grid
    votes: int = 0
    halting: float = 0.0
    """Sum of the halting probabilities of its votes."""

    @property
    def confidence(self) -> float:
        """Mean halting probability of the views that voted for the grid."""
        return self.halting / self.votes


@dataclass(slots=True)
class Ballots:
    """Votes on one test input so far."""

    num_views: int
    """Number of views that may vote."""
    num_cast: int = 0
    """Number of views that have run, including views whose answer is not a grid."""
    num_empty: int = 0
    """Number of cast views whose answer is not a grid."""
    empty_halting: float = 0.0
    """Sum of their halting probabilities."""
    _standings: dict[bytes, Standing] = field(default_factory=dict)

    def add(self, grid: Grid | None, halting: float) -> None:
        """Count the answer of one more view: a grid, or None if its tokens hold none. `halting` is in [0, 1]."""
        self.num_cast += 1
        if grid is None:
            self.num_empty += 1
            self.empty_halting += halting
            return
        standing = self._standings.setdefault(bytes(grid.shape) + grid.tobytes(), Standing(grid))
        standing.votes += 1
        standing.halting += halting

    def ranked(self) -> list[Standing]:
        """Return the candidates, best first."""
        return sorted(self._standings.values(), key=lambda standing: rank(standing.votes, standing.confidence))

    @property
    def num_left(self) -> int:
        """Number of views that have not run."""
        return self.num_views - self.num_cast

    def is_settled(self, stop: EarlyStop = "exact") -> bool:
        """Return whether the remaining views need not run.

        exact: the remaining views cannot change the first two grids or their order. All of them could vote for one
        grid, seen or not, so each place must lead the next by more votes than there are remaining views.
        first: the remaining views cannot change the first grid.
        likely: a change of the first grid is improbable. With n1 and n2 votes for the first two grids, m views cast and
        l remaining, the predicted lead is (n1 - n2) (1 + l/m) with a variance of at most (n1 + n2 + 1) l/m (1 + l/m),
        by the posterior predictive of a Dirichlet-multinomial; the lead must exceed `LIKELY` standard deviations.
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
