"""Rules of cells beside layers: learnt on pieces of a pass, as candidates of the search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.solvers.rules.conditions import make_table
from gridloom.solvers.rules.features import joined_features
from gridloom.solvers.rules.language import Rule, Term
from gridloom.solvers.rules.learning import Learner, RuleSet

MOST_IMAGES = 40
"""Pieces whose colours rules may look at, the cheapest ones."""
IMAGE_LIMIT = 20
"""Cost of the dearest of them."""
MOST_FOUND = 4
"""Sets of rules that are kept of one pass, with distinct answers."""


@dataclass(frozen=True, slots=True)
class Decided:
    """Rules that give every demonstration."""

    on: int
    """Piece whose features the rules look at."""
    rules: tuple[Rule, ...]
    images: tuple[int, ...]
    """Pieces that the rules name by their place here."""
    cost: int
    row: NDArray[np.uint8]
    """Cells of all pairs."""


class Decider:
    """Rules of one pass: those of all demonstrations, and those of all but one."""

    def __init__(
        self,
        rows: NDArray[np.uint8],
        costs: NDArray[np.int64],
        target: NDArray[np.uint8],
        starts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        demos: int,
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        """Measure the features.

        Args:
            rows: uint8 [pieces, cells of all pairs]; costs: of the pieces.
            target: cells of the demonstrations' outputs.
            starts: int64 [pairs + 1], first cell of each pair; sizes: int64 [pairs, 2], of the outputs.
            late: whether the time of the search is over.
        """
        self.target, self.starts, self.end = target, starts, int(starts[demos])
        order = np.argsort(costs, kind="stable")
        order = order[costs[order] <= IMAGE_LIMIT]
        self.on = next((int(piece) for piece in order if rows[piece].any()), None)
        """Piece whose features the rules look at; None where all are blank."""
        self.images = [int(piece) for piece in order if piece != self.on][:MOST_IMAGES]
        self._learner: Learner | None = None
        if self.on is not None:
            features = joined_features(rows[self.on], starts, sizes)
            colours = np.unique(target).tolist()
            table = make_table(features, rows[self.images], costs[self.images], self.end, colours)
            self._learner = Learner(table, target, self.end, late)

    def found(self) -> list[Decided]:
        """Return rules that give every demonstration, best first, one for each distinct answer.

        Rules longer than what they describe explain nothing: outputs of a few cells fit by coincidence.
        """
        found: dict[bytes, Decided] = {}
        for one in self._learner.run() if self._learner is not None else []:
            key = one.row[self.end :].tobytes()
            if key not in found and len(found) < MOST_FOUND:
                found[key] = self._named(one)
        return list(found.values())

    def without(self, left_out: int) -> tuple[NDArray[np.uint8], bool] | None:
        """Return the cells of all pairs by the best rules that are learnt without a demonstration, and whether they
        give that demonstration; None where no rules give the others."""
        if self._learner is None:
            return None
        cells = slice(int(self.starts[left_out]), int(self.starts[left_out + 1]))
        learnt = self._learner.run(cells)
        if not learnt:
            return None
        row = learnt[0].row
        return row, bool((row[cells] == self.target[cells]).all())

    def _named(self, one: RuleSet) -> Decided:
        """Return rules whose terms count the images that they use alone."""
        assert self.on is not None
        used = sorted({term.image for rule in one.rules for term in rule.terms() if term.image >= 0})
        place = {image: Term(image=number) for number, image in enumerate(used)}
        rules = tuple(rule.renamed(lambda term: place[term.image] if term.image >= 0 else term) for rule in one.rules)
        return Decided(self.on, rules, tuple(self.images[image] for image in used), one.cost, one.row)
