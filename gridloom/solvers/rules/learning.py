"""Learning of rules: which conditions separate the cells that change from the others, and what colour these get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import plain_kernel
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
FORMS = 3
"""Formulas of one rule that are tried in its place, the best ones."""
RULE_COST = 3
"""Cost of a rule beside those of its conditions and colour."""
NOTHING = slice(0, 0)


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules, the first that holds decides a cell; the last has no tests."""

    rules: tuple[Rule, ...]
    cost: int
    row: NDArray[np.uint8]
    """Cells of all pairs."""


def pack(bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Pack bits bool [rows, cells] into words uint64 [rows, cells / 64, rounded up]."""
    rows, cells = bits.shape
    padded = np.zeros((rows, (cells + 63) // 64 * 8), dtype=np.uint8)
    packed = np.packbits(bits, axis=1, bitorder="little")
    padded[:, : packed.shape[1]] = packed
    return padded.view(np.uint64)


def count(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the number of bits set in each row of words."""
    number: NDArray[np.int64] = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
    return number


@plain_kernel
def conjunctions(words: Any, costs: Any, triples: Any, both: Any, found: Any, total: Any) -> Any:
    """Find the pairs, then triples, of tests that no negative cell passes together, cheapest first by insertion.

    Args:
        words: uint64 [tests, n], the negative cells that pass each test; costs: of the tests, ascending.
        triples: tests of which triples are tried, the first so many.
        both: uint64 [n], scratch.
        found: int64 [most, 3], filled with tests, -1 for none; total: int64 [most], their costs.

    Returns how many were found.
    """
    tests, n = words.shape
    number, most, none = np.int64(0), total.size, np.int64(-1)
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
                number = insert(found, total, number, most, i, j, none, cost)
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


@plain_kernel
def insert(found: Any, total: Any, number: Any, most: Any, i: Any, j: Any, m: Any, cost: Any) -> Any:
    """Insert three tests in order of cost, after those of equal cost; returns the new number."""
    if number == most:
        if cost >= total[number - 1]:
            return number
        number -= 1
    place = number
    while place > 0 and total[place - 1] > cost:
        total[place] = total[place - 1]
        for k in range(3):
            found[place, k] = found[place - 1, k]
        place -= 1
    total[place] = cost
    found[place, 0], found[place, 1], found[place, 2] = i, j, m
    return number + 1


@dataclass(frozen=True, slots=True)
class Formula:
    """Conjunction of tests."""

    tests: tuple[int, ...]
    cost: int
    weight: float


class Learner:
    """Rules of one task. Cells are counted as bits of words, since there are thousands of tests."""

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
        right = table.shown[:, :demo_cells] == self.target
        self.words, self.total = pack(table.holds), table.holds.shape[1]
        self.right = self._of_demos(right)
        self.by_cost = np.argsort(table.costs, kind="stable")

    def _of_demos(self, bits: NDArray[np.bool_]) -> NDArray[np.uint64]:
        """Pack bits of the demonstrations' cells into words over the cells of all pairs."""
        rows, cells = bits.shape
        return pack(np.concatenate((bits, np.zeros((rows, self.total - cells), dtype=np.bool_)), axis=1))

    def holds(self, formula: Formula) -> NDArray[np.bool_]:
        """Return the cells of all pairs that pass a conjunction."""
        passed: NDArray[np.bool_] = np.array(self.table.holds[list(formula.tests)].all(axis=0))
        return passed

    def run(self, left_out: slice = NOTHING) -> list[RuleSet]:
        """Return sets of rules that give every demonstration, cheapest first.

        Args:
            left_out: cells of a demonstration from which nothing is learnt, as if they were a test's.
        """
        seen = np.ones(self.cells, dtype=np.bool_)
        seen[left_out] = False
        counted = self._of_demos(seen[None])[0]
        wrong = count(~self.right & counted)
        table = self.table
        order = np.lexsort((table.value_costs, wrong))
        found: list[RuleSet] = []
        for base in order[:BASES]:
            found += self._with_base(int(base), counted, seen)
        found.sort(key=lambda one: one.cost)
        return found

    def _with_base(self, base: int, counted: NDArray[np.uint64], seen: NDArray[np.bool_]) -> list[RuleSet]:
        open_, free = ~self.right[base] & counted, counted
        steps: list[tuple[int, list[Formula]]] = []
        least = int(self.table.value_costs[base])
        most = min(MOST_COST, int(seen.sum()))
        while open_.any() and len(steps) < MOST_RULES:
            step = self._best_step(open_, free)
            if step is None:
                return []
            value, formulas = step
            least += min(one.cost for one in formulas[:FORMS]) + int(self.table.value_costs[value]) + RULE_COST
            if least > most:
                return []
            steps.append(step)
            passed = np.bitwise_and.reduce(self.words[list(formulas[0].tests)], axis=0)
            open_, free = open_ & ~passed, free & ~passed
        if open_.any():
            return []
        return list(self._combined(base, steps, most, seen))

    def _combined(
        self, base: int, steps: list[tuple[int, list[Formula]]], most: int, seen: NDArray[np.bool_]
    ) -> Iterator[RuleSet]:
        table = self.table
        picks = [[0] * len(steps)]
        for place, (_, formulas) in enumerate(steps):
            for other in range(1, min(FORMS, len(formulas))):
                picks.append([other if k == place else 0 for k in range(len(steps))])
        for pick in picks:
            row = table.shown[base].copy()
            cost = int(table.value_costs[base])
            rules: list[Rule] = []
            for (value, formulas), number in zip(reversed(steps), reversed(pick), strict=True):
                formula = formulas[number]
                row = np.where(self.holds(formula), table.shown[value], row)
                cost += formula.cost + int(table.value_costs[value]) + RULE_COST
                rules.insert(0, Rule(table.values[value], tuple(table.conditions[t] for t in formula.tests)))
            rules.append(Rule(table.values[base], ()))
            if cost <= most and (row[: self.cells] == self.target)[seen].all():
                yield RuleSet(tuple(rules), cost, row.astype(np.uint8))

    def _best_step(self, open_: NDArray[np.uint64], free: NDArray[np.uint64]) -> tuple[int, list[Formula]] | None:
        """Return the colour and the formulas of the next rule: those of the value that is right on most open cells."""
        table = self.table
        cover = count(self.right & open_)
        order = np.lexsort((table.value_costs, -cover))
        for value in order[:8]:
            if cover[value] == 0 or self.late():
                break
            formulas = self.formulas(open_ & self.right[value], free & ~self.right[value])
            if formulas:
                return int(value), formulas
        for value in order[:PARTIAL_VALUES]:
            if cover[value] == 0 or self.late():
                break
            formula = self.partial(open_ & self.right[value], free & ~self.right[value])
            if formula is not None:
                return int(value), [formula]
        return None

    def partial(self, positive: NDArray[np.uint64], negative: NDArray[np.uint64]) -> Formula | None:
        """Return the conjunction of one or two conditions that no negative cell passes and most positive ones do; None
        where it would be less than `PARTIAL` of them."""
        table = self.table
        where = np.flatnonzero(positive | negative)
        shown = self.words[:, where]
        positive, negative = positive[where], negative[where]
        inside, outside = shown & positive, shown & negative
        covered = count(inside)
        num_positive, num_negative = (int(np.bitwise_count(words).sum()) for words in (positive, negative))
        least = PARTIAL * num_positive
        chosen = np.lexsort((table.costs, count(outside) - covered * num_negative // num_positive))
        chosen = chosen[covered[chosen] >= least][:PARTIAL_CANDIDATES]
        inside, outside = inside[chosen], outside[chosen]
        best: tuple[int, int, tuple[int, ...]] | None = None
        for place, one in enumerate(chosen):
            if not outside[place].any():
                alone: tuple[int, int, tuple[int, ...]] = (-int(covered[one]), int(table.costs[one]), (int(one),))
                best = alone if best is None or alone < best else best
                continue
            clear = np.flatnonzero(~(outside[:place] & outside[place]).any(axis=1))
            if not len(clear):
                continue
            both = count(inside[clear] & inside[place])
            most = int(both.max())
            if most < least or (best is not None and -most > best[0]):
                continue
            others = chosen[clear[both == most]]
            other = int(others[np.lexsort((others, table.costs[others]))[0]])
            entry = (-most, int(table.costs[one] + table.costs[other]) + 3, (other, int(one)))
            best = entry if best is None or entry < best else best
        return None if best is None else Formula(best[2], best[1], 1.0)

    def formulas(self, positive: NDArray[np.uint64], negative: NDArray[np.uint64]) -> list[Formula]:
        """Return conjunctions that every positive cell passes and no negative one, best first: those of one answer for
        the cells that are not positive, those of the tests too, share one place, the cheapest of them, by their weight
        together."""
        table = self.table
        where = np.flatnonzero(positive)
        fitting = self.by_cost[((self.words[:, where] & positive[where]) == positive[where]).all(axis=1)[self.by_cost]]
        if not len(fitting):
            return []
        inside = (self.words[fitting] & negative)[:, negative != 0]
        clear = ~inside.any(axis=1)
        found: list[tuple[int, tuple[int, ...]]] = [(int(table.costs[t]), (int(t),)) for t in fitting[clear]]
        rest = fitting[~clear]
        if len(found) < MOST_FORMULAS and len(rest):
            rest = rest[:CANDIDATES]
            words = np.ascontiguousarray(inside[~clear][:CANDIDATES])
            most = MOST_FORMULAS
            trio, total = np.full((most, 3), -1, dtype=np.int64), np.zeros(most, dtype=np.int64)
            both = np.empty(words.shape[1], dtype=np.uint64)
            number = int(conjunctions(words, table.costs[rest], 0 if found else TRIPLES, both, trio, total))
            for k in range(number):
                found.append((int(total[k]), tuple(int(rest[t]) for t in trio[k] if t >= 0)))
        groups: dict[bytes, Formula] = {}
        for cost, tests in sorted(found)[:MOST_FORMULAS]:
            passed = np.bitwise_and.reduce(self.words[list(tests)], axis=0) & ~positive
            key = passed.tobytes()
            weight = 2.0 ** (-cost / 3)
            known = groups.get(key)
            if known is None:
                groups[key] = Formula(tests, cost, weight)
            else:
                groups[key] = Formula(known.tests, known.cost, known.weight + weight)
        return sorted(groups.values(), key=lambda one: -one.weight)
