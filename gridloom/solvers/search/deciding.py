"""Rules of cells beside layers: learnt on pieces of a pass, as candidates of the search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def decide(
    rows: NDArray[np.uint8],
    costs: NDArray[np.int64],
    target: NDArray[np.uint8],
    starts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    demos: int,
    late: Callable[[], bool] = lambda: False,
) -> list[Decided]:
    """Return rules that give every demonstration, best first, one for each distinct answer.

    Args:
        rows: uint8 [pieces, cells of all pairs]; costs: of the pieces.
        target: cells of the demonstrations' outputs.
        starts: int64 [pairs + 1], first cell of each pair; sizes: int64 [pairs, 2], of the outputs.
        late: whether the time of the search is over.
    """
    order = np.argsort(costs, kind="stable")
    order = order[costs[order] <= IMAGE_LIMIT]
    end = int(starts[demos])
    bases = [int(piece) for piece in order if rows[piece].any()][:1]
    images = [int(piece) for piece in order if piece not in bases][:MOST_IMAGES]
    found: dict[bytes, Decided] = {}
    for on in bases:
        features = joined_features(rows[on], starts, sizes)
        colours = np.unique(target).tolist()
        table = make_table(features, rows[images], costs[images], end, colours)
        learner = Learner(table, target, end, late)
        for one in learner.run():
            key = one.row[end:].tobytes()
            # rules longer than what they describe explain nothing: outputs of a few cells fit by coincidence
            if one.cost <= end and key not in found and len(found) < MOST_FOUND:
                found[key] = _named(one, on, images)
    return list(found.values())


def _named(one: RuleSet, on: int, images: Sequence[int]) -> Decided:
    """Return rules whose terms count the images that they use alone."""
    used = sorted({term.image for rule in one.rules for term in rule.terms() if term.image >= 0})
    place = {image: Term(image=number) for number, image in enumerate(used)}
    rules = tuple(rule.renamed(lambda term: place[term.image] if term.image >= 0 else term) for rule in one.rules)
    return Decided(on, rules, tuple(images[image] for image in used), one.cost, one.row)
