"""Budgets of a search, its candidates, and the score by which they are ranked."""

from __future__ import annotations

from dataclasses import dataclass, field

from gridloom.runtime.data.tasks import Grid
from gridloom.solvers.search.programs import Program

RULES, RULE = 0.3, 0.06
"""Loss of score of a program of rules, and of each of them."""
DEAR_RULES = 40
"""Cost of rules above which the search goes on."""
AGREED = 0.3
"""Gain of score where layers and rules give the same answers."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one search."""

    depth: int = 20
    """Cost of the dearest program of a layer, 10 a function, its end left out."""
    states: int = 100_000
    """States of one pass."""
    pieces: int = 20_000
    """Pieces of one pass."""
    megabytes: int = 256
    """Memory of the images, values and calls of one pass."""
    rules: bool = True
    """Whether rules of cells are learnt beside layers."""
    turns: tuple[int, ...] = (0,)
    """Dihedral ids under which the grids are seen, one after the other until a program fits every demonstration."""
    seconds: float | None = None
    """No pass begins, and no chunk of states is expanded, after so long; then the result depends on the machine."""


@dataclass(frozen=True, slots=True)
class Found:
    """Candidate of a search: a program, and what it gives."""

    program: Program
    grids: tuple[Grid, ...]
    """Grid for each test input."""
    fits: tuple[bool, ...]
    """Whether it reproduces each demonstration."""
    cost: int
    """Cost of the dearest layer."""
    whole: bool
    """Whether a layer set every cell of the test outputs; else those left are background."""
    again: tuple[bool, ...] = ()
    """Whether the search finds the same answers without each demonstration, and that one right; empty where it was not
    tried."""

    ruled: tuple[bool, ...] = ()
    """The same of the best rules of cells that are learnt without each demonstration; empty where no rules were
    found."""

    agreed: bool = False
    """Whether the cheapest rules give the answers of these layers too, where both reproduce every demonstration."""

    near: float = 0.0
    """Share of the hints' cells that the answers have alike; 0 without hints, and for grids of other sizes."""

    @property
    def score(self) -> float:
        """Rank: demonstrations that fit, less the cost of the program, more where hints agree; the higher the better.

        The weights were chosen on training tasks of ARC-1: that of hints on 400, with hints of which 5 to 40% of the
        cells were wrong. Half of the cells agree by chance. Those of rules were chosen on 200, where two kinds of
        program that agree rank above either alone.
        """
        open_ = (0.0 if self.whole else 0.5) - AGREED * self.agreed
        if self.program.rules:
            open_ += RULES + (RULE - 0.03) * self.parts
        hinted = 4 * max(0.0, self.near - 0.5)
        return sum(self.fits) - 0.02 * self.cost - 0.03 * self.parts - 0.3 * bool(self.program.lookup) - open_ + hinted

    @property
    def length(self) -> int:
        """Length of the program as verifiers count it: its dearest image, and each part after the first."""
        return self.cost + 3 * (self.parts - 1) + 10 * bool(self.program.lookup)

    @property
    def fits_all(self) -> bool:
        """Whether the program reproduces every demonstration and sets every cell of the tests."""
        return all(self.fits) and self.whole

    @property
    def settles(self) -> bool:
        """Whether no further pass is needed: the program fits, and is not one of dear rules, which often fit by
        coincidence."""
        return self.fits_all and (not self.program.rules or self.cost <= DEAR_RULES)

    @property
    def parts(self) -> int:
        """Number of layers, of images of a lookup, or of rules."""
        return len(self.program.layers) + len(self.program.lookup) + len(self.program.rules)


@dataclass(slots=True)
class Result:
    """Candidates of a search, best first, and what it took."""

    found: list[Found] = field(default_factory=list)
    states: int = 0
    calls: int = 0
    pieces: int = 0
    exhausted: bool = False
    """Whether a limit of the budget ended a pass."""
    seconds: float = 0.0
