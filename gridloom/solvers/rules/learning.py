"""Learning of rules: which conditions separate the cells that change from the others, and what colour these get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import kernel
from gridloom.solvers.rules.conditions import Table
from gridloom.solvers.rules.language import Rule

MOST_RULES = 6
MOST_COST = 100
"""Cost of the dearest rules together; dearer ones fit by coincidence."""
BASES = 3
"""Colours for cells without a rule of which several are tried, those with fewest wrong cells."""
MOST_FORMULAS = 200
CANDIDATES = 400
"""Tests of which pairs are tried."""
PARTIAL = 0.3
"""Least share of the cells of one colour for which a rule of its own is made, where none is for all."""
PARTIAL_VALUES, PARTIAL_CANDIDATES = 3, 200
"""Colours, and conditions, of which such rules are tried."""
TRIPLES = 60


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules, the first that holds decides a cell; the last has no tests."""

    rules: tuple[Rule, ...]
    cost: int
    row: NDArray[np.uint8]
    """Cells of all pairs."""


@kernel
def pack(bits: Any, where: Any, words: Any) -> None:
    """Pack the columns `where` of bits bool [rows, cells] into words uint64 [rows, n], filled."""
    words[:] = 0
    for i in range(bits.shape[0]):
        for k in range(where.size):
            if bits[i, where[k]]:
                words[i, k >> 6] |= np.uint64(1) << np.uint64(k & 63)


@kernel
def conjunctions(words: Any, costs: Any, triples: Any, most: Any, found: Any, total: Any) -> Any:
    """Find the pairs, then triples, of tests that no negative cell passes together, cheapest first by insertion.

    Args:
        words: uint64 [tests, n], the negative cells that pass each test; costs: of the tests, ascending.
        triples: tests of which triples are tried, the first so many.
        found: int64 [most, 3], filled with tests, -1 for none; total: int64 [most], their costs.

    Returns how many were found.
    """
    tests, n = words.shape
    number = 0
    both = np.empty(n, dtype=np.uint64)
    for i in range(tests):
        for j in range(i):
            cost = costs[i] + costs[j] + 3
            if number == most and cost >= total[number - 1]:
                break
            clear = True
            for k in range(n):
                if words[i, k] & words[j, k]:
                    clear = False
                    break
            if clear:
                number = insert(found, total, number, most, i, j, -1, cost)
    if number == 0:
        for i in range(min(tests, triples)):
            for j in range(i):
                for k in range(n):
                    both[k] = words[i, k] & words[j, k]
                for m in range(j):
                    cost = costs[i] + costs[j] + costs[m] + 6
                    if number == most and cost >= total[number - 1]:
                        break
                    clear = True
                    for k in range(n):
                        if both[k] & words[m, k]:
                            clear = False
                            break
                    if clear:
                        number = insert(found, total, number, most, i, j, m, cost)
    return number


@kernel
def insert(found: Any, total: Any, number: Any, most: Any, i: Any, j: Any, m: Any, cost: Any) -> Any:
    """Insert three tests in order of cost, after those of equal cost; returns the new number."""
    if number == most:
        if cost >= total[number - 1]:
            return number
        number -= 1
    place = number
    while place > 0 and total[place - 1] > cost:
        total[place] = total[place - 1]
        found[place] = found[place - 1]
        place -= 1
    total[place] = cost
    found[place, 0], found[place, 1], found[place, 2] = i, j, m
    return number + 1


@dataclass(frozen=True, slots=True)
class Formula:
    """Conjunction of tests, and the cells that pass it."""

    tests: tuple[int, ...]
    cost: int
    holds: NDArray[np.bool_]
    weight: float


class Learner:
    """Rules of one task."""

    def __init__(
        self,
        table: Table,
        target: NDArray[np.uint8],
        demo_cells: int,
        late: Callable[[], bool] = lambda: False,
    ) -> None:
        """Keep the tests.

        Args:
            target: cells of the demonstrations' outputs.
            late: whether the time is over; then no further formulas are looked for.
        """
        self.late = late
        self.table, self.target, self.cells = table, target.astype(np.int16), demo_cells
        self.right = table.shown[:, :demo_cells] == self.target
        self.by_cost = np.argsort(table.costs, kind="stable")

    def run(self) -> list[RuleSet]:
        """Return sets of rules that give every demonstration, cheapest first."""
        counted = np.ones(self.cells, dtype=np.bool_)
        wrong = (~self.right & counted).sum(axis=1)
        table = self.table
        order = np.lexsort((table.value_costs, wrong))
        found: list[RuleSet] = []
        for base in order[:BASES]:
            found += self._with_base(int(base), counted)
        found.sort(key=lambda one: one.cost)
        return found

    def _with_base(self, base: int, counted: NDArray[np.bool_]) -> list[RuleSet]:
        open_ = ~self.right[base] & counted
        settled = np.zeros(self.cells, dtype=np.bool_)
        steps: list[tuple[int, list[Formula]]] = []
        while open_.any() and len(steps) < MOST_RULES:
            step = self._best_step(open_, counted & ~settled)
            if step is None:
                return []
            steps.append(step)
            settled |= step[1][0].holds[: self.cells]
            open_ &= ~settled
        if open_.any():
            return []
        return list(self._combined(base, steps))

    def _combined(self, base: int, steps: list[tuple[int, list[Formula]]]) -> Iterator[RuleSet]:
        table = self.table
        picks = [[0] * len(steps)]
        for place, (_, formulas) in enumerate(steps):
            for other in range(1, min(3, len(formulas))):
                picks.append([other if k == place else 0 for k in range(len(steps))])
        for pick in picks:
            row = table.shown[base].copy()
            cost = int(table.value_costs[base])
            rules: list[Rule] = []
            for (value, formulas), number in zip(reversed(steps), reversed(pick), strict=True):
                formula = formulas[number]
                row = np.where(formula.holds, table.shown[value], row)
                cost += formula.cost + int(table.value_costs[value]) + 3
                rules.insert(0, Rule(table.values[value], tuple(table.conditions[t] for t in formula.tests)))
            rules.append(Rule(table.values[base], ()))
            if cost <= MOST_COST and (row[: self.cells] == self.target).all():
                yield RuleSet(tuple(rules), cost, row.astype(np.uint8))

    def _best_step(self, open_: NDArray[np.bool_], free: NDArray[np.bool_]) -> tuple[int, list[Formula]] | None:
        """Return the colour and the formulas of the next rule: those of the value that is right on most open cells."""
        table = self.table
        cover = (self.right & open_).sum(axis=1)
        order = np.lexsort((table.value_costs, -cover))
        for value in order[:8]:
            if cover[value] == 0 or self.late():
                break
            positive = open_ & self.right[value]
            negative = free & ~self.right[value]
            formulas = self.formulas(positive, negative)
            if formulas:
                return int(value), formulas
        for value in order[:PARTIAL_VALUES]:
            if self.late():
                break
            positive = open_ & self.right[value]
            if positive.any() and (formula := self.partial(positive, free & ~self.right[value])) is not None:
                return int(value), [formula]
        return None

    def partial(self, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> Formula | None:
        """Return the conjunction of one or two conditions that no negative cell passes and most positive ones do; None
        where it would be less than `PARTIAL` of them."""
        table = self.table
        shown = table.holds[:, : self.cells]
        inside, outside = shown[:, positive], shown[:, negative]
        covered = inside.sum(axis=1)
        least = PARTIAL * int(positive.sum())
        chosen = np.lexsort((table.costs, outside.sum(axis=1) - covered * outside.shape[1] // inside.shape[1]))
        chosen = chosen[covered[chosen] >= least][:PARTIAL_CANDIDATES]
        best: tuple[int, int, tuple[int, ...]] | None = None
        for place, one in enumerate(chosen):
            if not outside[one].any():
                alone: tuple[int, int, tuple[int, ...]] = (-int(covered[one]), int(table.costs[one]), (int(one),))
                best = alone if best is None or alone < best else best
                continue
            others = chosen[:place]
            clear = others[~outside[others][:, outside[one]].any(axis=1)]
            for other, both in zip(clear, inside[clear][:, inside[one]].sum(axis=1), strict=True):
                cost = int(table.costs[one] + table.costs[other]) + 3
                entry = (-int(both), cost, (int(other), int(one)))
                if both >= least and (best is None or entry < best):
                    best = entry
        if best is None:
            return None
        holds: NDArray[np.bool_] = np.array(table.holds[list(best[2])].all(axis=0))
        return Formula(best[2], best[1], holds, 1.0)

    def formulas(self, positive: NDArray[np.bool_], negative: NDArray[np.bool_]) -> list[Formula]:
        """Return conjunctions that every positive cell passes and no negative one, best first: those of one answer for
        the tests' cells share one place, the cheapest of them, by their weight together."""
        table = self.table
        shown = table.holds[:, : self.cells]
        fitting = self.by_cost[shown[:, positive][self.by_cost].all(axis=1)]
        if not len(fitting):
            return []
        inside = shown[fitting][:, negative]
        clear = ~inside.any(axis=1)
        found: list[tuple[int, tuple[int, ...]]] = [(int(table.costs[t]), (int(t),)) for t in fitting[clear]]
        rest = fitting[~clear]
        if len(found) < MOST_FORMULAS and len(rest):
            rest = rest[:CANDIDATES]
            where = np.flatnonzero(negative)
            words = np.empty((len(rest), (len(where) + 63) // 64), dtype=np.uint64)
            pack(np.ascontiguousarray(shown[rest]), where, words)
            most = MOST_FORMULAS
            trio, total = np.full((most, 3), -1, dtype=np.int64), np.zeros(most, dtype=np.int64)
            number = int(conjunctions(words, table.costs[rest], 0 if found else TRIPLES, most, trio, total))
            for k in range(number):
                found.append((int(total[k]), tuple(int(rest[t]) for t in trio[k] if t >= 0)))
        groups: dict[bytes, Formula] = {}
        for cost, tests in sorted(found)[:MOST_FORMULAS]:
            holds: NDArray[np.bool_] = np.array(table.holds[list(tests)].all(axis=0))
            key = np.packbits(holds[self.cells :]).tobytes() + np.packbits(holds[: self.cells][~positive]).tobytes()
            weight = 2.0 ** (-cost / 3)
            known = groups.get(key)
            if known is None:
                groups[key] = Formula(tests, cost, holds, weight)
            else:
                groups[key] = Formula(known.tests, known.cost, known.holds, known.weight + weight)
        return sorted(groups.values(), key=lambda one: -one.weight)
