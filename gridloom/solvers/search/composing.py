"""Composition of the outputs of a task from pieces: exact ones, layers of several, lookups; and what holds without one
demonstration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid
from gridloom.solvers.search.apply import Store
from gridloom.solvers.search.deciding import Decider
from gridloom.solvers.search.expand import States
from gridloom.solvers.search.found import Budget, Found
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER
from gridloom.solvers.search.lookup import find_lookups
from gridloom.solvers.search.pieces import ALL, MAX_LAYERS, UNKNOWN, gather, lay, make_bits, stack_layers
from gridloom.solvers.search.programs import Expression, Layer, Program, Side
from gridloom.solvers.search.sizes import Law, SizeGuess

LOOKED_UP = 5000
"""Cheapest pieces that lookups are made of."""
MOST_EXACT = 8
"""Pieces that equal every output and are kept as candidates, the cheapest ones with distinct answers."""
LIMITS = (10, 20, 30, 1000)
"""Costs up to which pieces are layers, one limit after the other."""


class Composer:
    """Pieces of one pass, and the candidates that are made of them."""

    def __init__(
        self,
        store: Store,
        states: States,
        order: NDArray[np.int64],
        givens: Sequence[str],
        outputs: Sequence[Grid],
        guess: SizeGuess,
        budget: Budget,
        late: Callable[[], bool],
    ) -> None:
        """Collect the pieces.

        Args:
            order: states by ascending cost.
            givens: names of the given states.
            outputs: of the demonstrations.
            guess: sizes of all outputs.
            late: whether the time of the search is over.
        """
        self.states, self.givens, self.guess, self.late = states, givens, guess, late
        self.demos, self.pairs = len(outputs), len(guess.sizes)
        self.everything, self.learning = (1 << self.demos) - 1, budget.rules
        areas = guess.sizes.prod(axis=1)
        self.starts = np.concatenate(([0], np.cumsum(areas))).astype(np.int64)
        common = set.intersection(*(set(np.unique(grid).tolist()) for grid in outputs)) - {0}
        colours = np.array(sorted(common)[:5], dtype=np.int64)
        rows = np.empty((budget.pieces, int(self.starts[-1])), dtype=np.uint8)
        made = np.empty((budget.pieces, 4), dtype=np.int64)
        cost = FUNCTIONS[NUMBER["recolour 1"]].cost
        slots = np.full(1 << (2 * budget.pieces - 1).bit_length(), -1, dtype=np.int32)
        hashes = np.empty(budget.pieces, dtype=np.uint64)
        number = int(gather(store, states, order, colours, guess.sizes, self.starts, cost, rows, made, slots, hashes))
        self.number = number
        self.rows, self.made = rows[:number], made[:number]
        self.words = np.concatenate(([0], np.cumsum((areas[: self.demos] + 63) // 64))).astype(np.int64)
        self.target = np.concatenate([grid.ravel() for grid in outputs])
        self.ground = np.empty((number, self.words[-1]), dtype=np.uint64)
        self.wrong = np.empty((number, self.words[-1]), dtype=np.uint64)
        self.fits = np.empty(number, dtype=np.int64)
        make_bits(self.rows, number, self.target, self.starts, self.words, self.ground, self.wrong, self.fits)
        self.costs = self.made[:, 3].copy()
        known = np.unique(self.costs)
        self.limits = sorted({int(known[known <= bound].max()) for bound in LIMITS if (known <= bound).any()})

    def run(self, sizes_without: Callable[[int], bool]) -> list[Found]:
        """Return the candidates.

        Args:
            sizes_without: whether the sizes are guessed alike without a demonstration.
        """
        results: dict[bytes, Found] = {}
        if all(self.guess.fits):
            self._take_exact(results)
        self._stack_all(results)
        if all(self.guess.fits) and not any(one.fits_all for one in results.values()):
            self._look_up(results)
        if any(one.fits_all for one in results.values()) and self.demos > 1:
            self._find_again(results, sizes_without)
        if self.learning and all(self.guess.fits) and not self.late():
            self._decide(results, sizes_without)
        return list(results.values())

    def _take_exact(self, results: dict[bytes, Found]) -> None:
        exact = np.flatnonzero(self.fits == self.everything)
        kept = 0
        for piece in exact[np.argsort(self.costs[exact], kind="stable")]:
            known = len(results)
            layer = Layer(ALL, self._piece(int(piece)))
            self._keep(self._program((layer,)), self.rows[piece], int(self.costs[piece]), results)
            kept += len(results) > known
            if kept == MOST_EXACT or self.late():
                return

    def _look_up(self, results: dict[bytes, Found]) -> None:
        for lookup in find_lookups(self.rows[:LOOKED_UP], self.costs[:LOOKED_UP], self.target, self.starts, self.demos):
            images = tuple(self._piece(piece) for piece in lookup.pieces)
            self._keep(replace(self._program(()), lookup=images), lookup.row, lookup.cost, results)

    def _decide(self, results: dict[bytes, Found], sizes_without: Callable[[int], bool]) -> None:
        """Add candidates of rules of cells."""
        guess, target, starts = self.guess, self.target, self.starts
        decider = Decider(self.rows, self.costs, target, starts, guess.sizes, self.demos, self.late)
        first = True
        for one in decider.found():
            program = replace(
                self._program(()),
                on=self._piece(one.on),
                rules=one.rules,
                images=tuple(self._piece(piece) for piece in one.images),
            )
            self._keep(program, one.row, one.cost, results, agrees=first)
            first = False
        if not first and self.demos > 1:
            self._learn_again(decider, results, sizes_without)

    def _learn_again(self, decider: Decider, results: dict[bytes, Found], sizes_without: Callable[[int], bool]) -> None:
        """Set, for each candidate, without which demonstrations the best rules give it, too."""
        ruled: dict[bytes, list[bool]] = {key: [] for key in results}
        tests = slice(int(self.starts[self.demos]), None)
        for left_out in range(self.demos):
            one = decider.without(left_out) if sizes_without(left_out) else None
            answer = self._answers(one[0][tests])[1] if one is not None and one[1] else None
            for key, found in ruled.items():
                found.append(key == answer)
        for key, found in ruled.items():
            results[key] = replace(results[key], ruled=tuple(found))

    def _stack_all(self, results: dict[bytes, Found]) -> None:
        demos = range(self.demos)
        whole = [(self.everything, care) for care in demos]
        rest = [
            (sum(1 << p for p in subset), care)
            for size in range(self.demos - 1, 0, -1)
            for subset in combinations(demos[:5], size)
            for care in subset
        ]
        for runs in (whole, rest):
            for limit in self.limits:
                for subset, care in runs:
                    if results and self.late():
                        return
                    self._stack(subset, care, limit, results)
            if any(one.fits_all for one in results.values()) or self.late():
                break

    def _find_again(self, results: dict[bytes, Found], sizes_without: Callable[[int], bool]) -> None:
        """Set, for each candidate, without which demonstrations it is the best one of those that are left, too."""
        again: dict[bytes, list[bool]] = {key: [] for key in results}
        for left_out in range(self.demos):
            best = self._best_without(left_out) if sizes_without(left_out) else None
            for key, found in again.items():
                found.append(key == best)
        for key, found in again.items():
            results[key] = replace(results[key], again=tuple(found))

    def _best_without(self, left_out: int) -> bytes | None:
        """Return the answers of the best candidate that is found without a demonstration; None where none fits the
        others and that one."""
        subset = self.everything & ~(1 << left_out)
        without: dict[bytes, Found] = {}
        fitting = np.flatnonzero((self.fits & subset) == subset)
        for piece in fitting[np.argsort(self.costs[fitting], kind="stable")][:1]:
            program = self._program((Layer(ALL, self._piece(int(piece))),))
            self._keep(program, self.rows[piece], int(self.costs[piece]), without)
        for limit in self.limits:
            for care in range(self.demos):
                if care != left_out and not self.late():
                    self._stack(subset, care, limit, without)
        best: tuple[float, bytes] | None = None
        for key, one in without.items():
            fits = sum(one.fits) - one.fits[left_out]
            score = one.score - one.fits[left_out]
            if fits == self.demos - 1 and one.whole and (best is None or score > best[0]):
                best = (score, key)
        return best[1] if best is not None and without[best[1]].fits[left_out] else None

    def _stack(self, subset: int, care: int, limit: int, results: dict[bytes, Found]) -> None:
        open_ = np.zeros(self.words[-1], dtype=np.uint64)
        for p in range(self.demos):
            if subset >> p & 1:
                size = int(self.starts[p + 1] - self.starts[p])
                first = self.words[p]
                open_[first : first + size // 64] = ~np.uint64(0)
                if size % 64:
                    open_[first + size // 64] = np.uint64((1 << size % 64) - 1)
        layers = np.empty((MAX_LAYERS, 2), dtype=np.int64)
        number = int(stack_layers(self.ground, self.wrong, self.costs, limit, open_, self.words, subset, care, layers))
        if number == 0:
            return
        row = np.empty(int(self.starts[-1]), dtype=np.uint8)
        lay(self.rows, layers, number, row)
        chosen = layers[:number]
        parts = tuple(Layer(int(mode), self._piece(int(piece))) for piece, mode in chosen)
        self._keep(self._program(parts), row, int(self.costs[chosen[:, 0]].max()), results)

    def _program(self, layers: tuple[Layer, ...]) -> Program:
        return Program(rows=self._side(self.guess.rows), columns=self._side(self.guess.columns), layers=layers)

    def _keep(
        self,
        program: Program,
        row: NDArray[np.uint8],
        cost: int,
        results: dict[bytes, Found],
        *,
        agrees: bool = False,
    ) -> None:
        """Keep a candidate if it is the best one of its answers; layers stay before rules, which may agree."""
        starts, guess = self.starts, self.guess
        fits = tuple(
            guess.fits[p] and bool((row[starts[p] : starts[p + 1]] == self.target[starts[p] : starts[p + 1]]).all())
            for p in range(self.demos)
        )
        tests = row[starts[self.demos] :]
        whole = bool((tests != UNKNOWN).all())
        grids, key = self._answers(tests)
        found = Found(program, grids, fits, cost, whole)
        known = results.get(key)
        if known is not None and program.rules and not known.program.rules and known.fits_all and found.fits_all:
            results[key] = replace(known, agreed=known.agreed or agrees)
        elif known is None or known.score < found.score:
            results[key] = found

    def _answers(self, tests: NDArray[np.uint8]) -> tuple[tuple[Grid, ...], bytes]:
        """Return the grids of the tests' cells, and a key that equal ones share."""
        starts = self.starts[self.demos :] - self.starts[self.demos]
        tests = np.where(tests == UNKNOWN, 0, tests).astype(np.uint8)
        grids = tuple(
            tests[starts[k] : starts[k + 1]].reshape(self.guess.sizes[self.demos + k])
            for k in range(self.pairs - self.demos)
        )
        return grids, b"".join(bytes(grid.shape) + grid.tobytes() for grid in grids)

    def _side(self, law: Law) -> Side:
        of = self.expression(law.state) if law.state >= 0 else None
        added = self.expression(law.added) if law.added >= 0 else None
        return Side(law.constant, law.factor, of, added)

    def expression(self, state: int) -> Expression:
        """Return the program of a state."""
        chain: list[int] = []
        while self.states.parent[state] >= 0:
            chain.append(int(self.states.function[state]))
            state = int(self.states.parent[state])
        return Expression(self.givens[int(self.states.function[state])], tuple(reversed(chain)))

    def _piece(self, piece: int) -> Expression:
        state, at_origin, colour, _ = (int(value) for value in self.made[piece])
        image = self.expression(state)
        ends = (["origin"] if at_origin else []) + ([f"recolour {colour}"] if colour else [])
        return Expression(image.given, (*image.functions, *(NUMBER[name] for name in ends)))
