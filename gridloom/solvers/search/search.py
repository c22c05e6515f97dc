"""Search of programs that explain a task: states, sizes, pieces, layers, and the candidates ranked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid, Task
from gridloom.solvers.search import functions
from gridloom.solvers.search.apply import CALLS, Store, call
from gridloom.solvers.search.colours import IDENTITY
from gridloom.solvers.search.expand import (
    States,
    add_state,
    expand,
    join_lists,
    make_states,
    make_store,
    put_image,
    requeue,
)
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER, SEARCHED
from gridloom.solvers.search.lookup import find_lookups
from gridloom.solvers.search.pieces import MAX_LAYERS, UNKNOWN, gather, lay, make_bits, stack_layers
from gridloom.solvers.search.programs import COLOURS, Expression, Layer, Program, Side
from gridloom.solvers.search.running import max_area, see, unseen
from gridloom.solvers.search.sizes import MAX_SEEDS, Law, SizeGuess, guess_sizes, nearest_sizes, seed_sizes

TABLE = functions.table()
FREE = np.array([number for number in SEARCHED if FUNCTIONS[number].sized != "output"], dtype=np.int64)
"""Functions that need no size of the output."""
BOUND = np.array([number for number in SEARCHED if FUNCTIONS[number].sized == "output"], dtype=np.int64)
GIVEN_COST = 10


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

    @property
    def score(self) -> float:
        """Rank: demonstrations that fit, less the cost of the program; the higher the better.

        The weights were chosen on 200 training tasks of ARC-1.
        """
        open_ = 0.0 if self.whole else 0.5
        return sum(self.fits) - 0.02 * self.cost - 0.03 * self.parts - 0.3 * bool(self.program.lookup) - open_

    @property
    def length(self) -> int:
        """Length of the program as verifiers count it: its dearest image, and each part after the first."""
        return self.cost + 3 * (self.parts - 1) + 10 * bool(self.program.lookup)

    @property
    def fits_all(self) -> bool:
        """Whether the program reproduces every demonstration and sets every cell of the tests."""
        return all(self.fits) and self.whole

    @property
    def parts(self) -> int:
        """Number of layers, or of images of a lookup."""
        return len(self.program.layers) + len(self.program.lookup)


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


LOOKED_UP = 5000
"""Cheapest pieces that lookups are made of."""
CHUNK = 16
"""States that are expanded between looks at the clock."""


class Pass:
    """One search over grids as they are given to it: inputs, outputs of the demonstrations, test inputs."""

    def __init__(
        self, inputs: Sequence[Grid], outputs: Sequence[Grid], budget: Budget, deadline: float | None = None
    ) -> None:
        """Prepare the store.

        Args:
            inputs: of the demonstrations, then of the tests.
            outputs: of the demonstrations.
        """
        self.inputs, self.outputs, self.budget, self.deadline = inputs, outputs, budget, deadline
        self.demos, self.pairs = len(outputs), len(inputs)
        sizes = np.zeros((self.pairs, 4), dtype=np.int64)
        for p, grid in enumerate(inputs):
            sizes[p, :2] = grid.shape
        for p, grid in enumerate(outputs):
            sizes[p, 2:] = grid.shape
        self.store: Store = make_store(TABLE, sizes, budget.megabytes << 20, max_area([*inputs, *outputs]))
        self.states: States = make_states(budget.states, self.pairs)
        self.givens: list[str] = []
        self.exhausted = False
        self.num_pieces = 0

    def _give(self, name: str, grids: Sequence[Grid], cost: int) -> None:
        values = np.array([put_image(self.store, p, grid) for p, grid in enumerate(grids)], dtype=np.int64)
        if (values < 0).any():
            self.exhausted = True
            return
        before = self.states.used[0]
        add_state(self.states, values, cost, -1, len(self.givens))
        if self.states.used[0] > before:
            self.givens.append(name)

    def _expand(self, listed: NDArray[np.int64]) -> None:
        depth, begin = self.budget.depth, 0
        while begin < depth:
            begin = int(expand(self.store, self.states, listed, depth, depth - 5, begin, CHUNK))
            if self.states.used[1] or self._late():
                self.exhausted = True
                return

    def order(self) -> NDArray[np.int64]:
        """Return the states by ascending cost."""
        return np.argsort(self.states.cost[: self.states.used[0]], kind="stable").astype(np.int64)

    def run(self) -> list[Found]:
        """Search, and return the candidates."""
        self._give("input", self.inputs, 0)
        self._give("blank input", [np.zeros_like(grid) for grid in self.inputs], GIVEN_COST)
        for k, output in enumerate(self.outputs):
            grids = [np.zeros_like(output) if p == k else output for p in range(self.pairs)]
            self._give(f"demo {k + 1}", grids, GIVEN_COST)
        self._expand(FREE)
        guess = self._guess_sizes()
        if guess is None:
            return []
        self.store.sizes[:, 2:] = guess.sizes
        requeue(self.states)
        self._give("blank output", [np.zeros(tuple(size), dtype=np.uint8) for size in guess.sizes], GIVEN_COST)
        self._expand(np.concatenate((FREE, BOUND)))
        join_lists(self.store, self.states, NUMBER["layer"])
        return self._compose(guess)

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _guess_sizes(self) -> SizeGuess | None:
        target = np.array([grid.shape for grid in self.outputs], dtype=np.int64)
        found, sizes = seed_sizes(self.store, self.states, self.order(), MAX_SEEDS)
        guesses = guess_sizes(found, sizes, target)
        return guesses[0] if guesses else nearest_sizes(found, sizes, target)

    def _compose(self, guess: SizeGuess) -> list[Found]:
        areas = guess.sizes.prod(axis=1)
        starts = np.concatenate(([0], np.cumsum(areas))).astype(np.int64)
        common = set.intersection(*(set(np.unique(grid).tolist()) for grid in self.outputs)) - {0}
        colours = np.array(sorted(common)[:5], dtype=np.int64)
        rows = np.empty((self.budget.pieces, int(starts[-1])), dtype=np.uint8)
        made = np.empty((self.budget.pieces, 4), dtype=np.int64)
        cost = FUNCTIONS[NUMBER["recolour 1"]].cost
        number = int(gather(self.store, self.states, self.order(), colours, guess.sizes, starts, cost, rows, made))
        self.num_pieces += number
        self.rows, self.made, self.starts = rows[:number], made[:number], starts
        words = np.concatenate(([0], np.cumsum((areas[: self.demos] + 63) // 64))).astype(np.int64)
        self.words = words
        self.target = np.concatenate([grid.ravel() for grid in self.outputs])
        self.ground = np.empty((number, words[-1]), dtype=np.uint64)
        self.wrong = np.empty((number, words[-1]), dtype=np.uint64)
        fits = np.empty(number, dtype=np.int64)
        make_bits(self.rows, number, self.target, starts, words, self.ground, self.wrong, fits)
        self.costs = self.made[:, 3].copy()
        results = self._stack_all(guess)
        if all(guess.fits) and not any(one.fits_all for one in results.values()):
            self._look_up(guess, results)
        return list(results.values())

    def _look_up(self, guess: SizeGuess, results: dict[bytes, Found]) -> None:
        for lookup in find_lookups(self.rows[:LOOKED_UP], self.costs[:LOOKED_UP], self.target, self.starts, self.demos):
            images = tuple(self._piece(piece) for piece in lookup.pieces)
            self._keep(guess, (), images, lookup.row, lookup.cost, results)

    def _stack_all(self, guess: SizeGuess) -> dict[bytes, Found]:
        everything = (1 << self.demos) - 1
        results: dict[bytes, Found] = {}
        known = np.unique(self.costs)
        limits = sorted({int(known[known <= bound].max()) for bound in (10, 20, 30, 1000) if (known <= bound).any()})
        demos = range(self.demos)
        whole = [(everything, care) for care in demos]
        rest = [
            (sum(1 << p for p in subset), care)
            for size in range(self.demos - 1, 0, -1)
            for subset in combinations(demos[:5], size)
            for care in subset
        ]
        for runs in (whole, rest):
            for limit in limits:
                for subset, care in runs:
                    if self._late():
                        return results
                    self._stack(guess, subset, care, limit, results)
            if any(one.fits_all for one in results.values()) or self._late():
                break
        return results

    def _stack(self, guess: SizeGuess, subset: int, care: int, limit: int, results: dict[bytes, Found]) -> None:
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
        self._keep(guess, parts, (), row, int(self.costs[chosen[:, 0]].max()), results)

    def _keep(
        self,
        guess: SizeGuess,
        layers: tuple[Layer, ...],
        lookup: tuple[Expression, ...],
        row: NDArray[np.uint8],
        cost: int,
        results: dict[bytes, Found],
    ) -> None:
        starts = self.starts
        fits = tuple(
            guess.fits[p] and bool((row[starts[p] : starts[p + 1]] == self.target[starts[p] : starts[p + 1]]).all())
            for p in range(self.demos)
        )
        tests = row[starts[self.demos] :]
        whole = bool((tests != UNKNOWN).all())
        tests = np.where(tests == UNKNOWN, 0, tests).astype(np.uint8)
        program = Program(
            rows=self._side(guess.rows),
            columns=self._side(guess.columns),
            layers=layers,
            lookup=lookup,
        )
        grids = tuple(
            tests[starts[p] - starts[self.demos] : starts[p + 1] - starts[self.demos]].reshape(guess.sizes[p])
            for p in range(self.demos, self.pairs)
        )
        found = Found(program, grids, fits, cost, whole)
        key = b"".join(bytes(grid.shape) + grid.tobytes() for grid in grids)
        if key not in results or results[key].score < found.score:
            results[key] = found

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


def is_compiled() -> bool:
    """Whether machine code of the kernels is kept on disk; else the first search compiles them for a minute or two."""
    compiled: Any = call
    stats = getattr(compiled, "stats", None)
    if stats is None:  # under NUMBA_DISABLE_JIT
        return True
    return bool(compiled.signatures) or any(Path(stats.cache_path or "/").glob("apply.call-*.nbi"))


def search(task: Task, budget: Budget | None = None) -> Result:
    """Search programs for a task.

    The same budget without seconds gives the same result, on any machine.
    """
    budget = budget or Budget()
    began = time.monotonic()
    deadline = None if budget.seconds is None else began + budget.seconds
    result = Result()
    if not task.demos or not task.tests:
        return result
    num_demos = len(task.demos)
    for colours in COLOURS:
        if deadline is not None and time.monotonic() > deadline and result.found:
            break
        seen = see(task, roles=colours == "roles")
        if colours == "roles" and all((role == IDENTITY).all() for role in seen.roles):
            continue
        one = Pass(seen.inputs, seen.outputs, budget, deadline)
        for found in one.run():
            part = found.program
            program = Program(part.rows, part.columns, part.layers, colours, 0, part.lookup)
            grids = tuple(unseen(grid, seen.roles[num_demos + k], 0) for k, grid in enumerate(found.grids))
            result.found.append(replace(found, program=program, grids=grids))
        result.states += int(one.states.used[0])
        result.calls += int(one.store.used[CALLS])
        result.pieces += one.num_pieces
        result.exhausted |= one.exhausted
        if any(found.fits_all for found in result.found):
            break
    result.found.sort(key=lambda found: -found.score)
    result.seconds = time.monotonic() - began
    return result
