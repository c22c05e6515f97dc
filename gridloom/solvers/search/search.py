"""Search of programs that explain a task: states, sizes, pieces, layers, and the candidates ranked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.search import functions
from gridloom.solvers.search.apply import CALLS, Store
from gridloom.solvers.search.colours import IDENTITY
from gridloom.solvers.search.composing import Composer
from gridloom.solvers.search.expand import (
    States,
    add_state,
    expand,
    make_states,
    make_store,
    put_image,
    requeue,
)
from gridloom.solvers.search.found import Budget, Found, Result
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER, SEARCHED
from gridloom.solvers.search.programs import COLOURS, Colours
from gridloom.solvers.search.running import max_area, see, unseen
from gridloom.solvers.search.sizes import MAX_SEEDS, SizeGuess, guess_sizes, nearest_sizes, seed_sizes

TABLE = functions.table()
FREE = np.array([number for number in SEARCHED if FUNCTIONS[number].sized != "output"], dtype=np.int64)
"""Functions that need no size of the output."""
BOUND = np.array([number for number in SEARCHED if FUNCTIONS[number].sized == "output"], dtype=np.int64)
GIVEN_COST = 10
CHUNK = 4
"""States that are expanded between looks at the clock, where time is limited."""
UNBOUNDED = 1 << 40
"""More states than there are."""
EXPANDING = 0.5
"""Share of a pass's time that goes to the expansion of states; pieces and layers have the rest."""
CELLS_A_SECOND = 3e7
"""Cells of pieces that are made and compared in a second, about; bounds the pieces where time is limited."""
FEWEST_PIECES = 200
"""Pieces that are made however little time is left."""


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
        now = time.monotonic()
        self.expand_until = None if deadline is None else now + EXPANDING * (deadline - now)
        self.demos, self.pairs = len(outputs), len(inputs)
        sizes = np.zeros((self.pairs, 4), dtype=np.int64)
        for p, grid in enumerate(inputs):
            sizes[p, :2] = grid.shape
        for p, grid in enumerate(outputs):
            sizes[p, 2:] = grid.shape
        self.store: Store = make_store(TABLE, sizes, budget.megabytes << 20, max_area([*inputs, *outputs]))
        self.states: States = make_states(budget.states, self.pairs)
        self.child = np.empty(self.pairs, dtype=np.int64)
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
            most = UNBOUNDED if self.expand_until is None else CHUNK
            begin = int(expand(self.store, self.states, listed, depth, depth - 5, begin, most, False, self.child))
            if self.states.used[1] or (self.expand_until is not None and time.monotonic() > self.expand_until):
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
        if not self._late():
            joins = np.array([NUMBER["layer"]], dtype=np.int64)
            expand(self.store, self.states, joins, 0, 0, 0, UNBOUNDED, True, self.child)
        order, budget = self.order(), self.budget
        if self.deadline is not None:
            cells = CELLS_A_SECOND * max(0.0, self.deadline - time.monotonic())
            most = max(FEWEST_PIECES, int(cells / guess.sizes.prod(axis=1).sum()))
            order, budget = order[: 2 * most], replace(budget, pieces=min(budget.pieces, most))
        composer = Composer(self.store, self.states, order, self.givens, self.outputs, guess, budget, self._late)
        self.num_pieces = composer.number
        return composer.run(partial(self._guessed_without, guess))

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _guess_sizes(self) -> SizeGuess | None:
        self.target = np.array([grid.shape for grid in self.outputs], dtype=np.int64)
        self.seeds, self.seeded = seed_sizes(self.store, self.states, self.order(), MAX_SEEDS)
        guesses = guess_sizes(self.seeds, self.seeded, self.target)
        return guesses[0] if guesses else nearest_sizes(self.seeds, self.seeded, self.target)

    def _guessed_without(self, guess: SizeGuess, left_out: int) -> bool:
        """Return whether the other demonstrations give the same sizes, that of the one left out too."""
        order = [p for p in range(self.pairs) if p != left_out] + [left_out]
        target = self.target[order[: self.demos - 1]]
        guesses = guess_sizes(self.seeds, np.ascontiguousarray(self.seeded[:, order]), target)
        return bool(guesses) and np.array_equal(guesses[0].sizes, guess.sizes[order])


def is_compiled() -> bool:
    """Whether machine code of the kernels is kept on disk; else the first search compiles them for about a minute."""
    compiled: Any = expand
    stats = getattr(compiled, "stats", None)
    if stats is None:  # under NUMBA_DISABLE_JIT
        return True
    return bool(compiled.signatures) or any(Path(stats.cache_path or "/").glob("expand.expand-*.nbi"))


def compile_kernels() -> None:
    """Compile the kernels ahead of the first search, whose seconds then are its own, by searches of two made tasks.

    Colours exchanged are a lookup; the output without a rule is searched by every means to the end of the budget.
    """
    first, second, third = (
        np.array(rows, dtype=np.uint8)
        for rows in (
            [[0, 2, 0], [0, 0, 0], [1, 0, 2]],
            [[2, 0, 0], [0, 0, 1], [0, 2, 0]],
            [[0, 2, 1], [2, 0, 0], [0, 0, 0]],
        )
    )
    exchange = np.array([0, 2, 1], dtype=np.uint8)
    mixed = (Pair(first, (first + third) * 2), Pair(second, second * 3 + 1 - first % 2))
    for demos in ((Pair(first, exchange[first]), Pair(second, exchange[second])), mixed):
        search(Task("kernels", "", demos, (third,)), Budget(depth=20, states=300, pieces=200))


def search(task: Task, budget: Budget | None = None, hints: Sequence[Grid | None] = ()) -> Result:
    """Search programs for a task, pass after pass until a program fits every demonstration.

    The same budget without seconds gives the same result, on any machine.

    Args:
        hints: likely answers of the test inputs, in their order, such as a network's; None for no hint.
    """
    budget = budget or Budget()
    began = time.monotonic()
    deadline = None if budget.seconds is None else began + budget.seconds
    result = Result()
    if not task.demos or not task.tests:
        return result
    for turned in budget.turns:
        for colours in COLOURS:
            if deadline is not None and time.monotonic() > deadline and result.found:
                break
            search_once(task, budget, colours, turned, deadline, result)
            if any(found.settles for found in result.found):
                break
        else:
            continue
        break
    if any(hint is not None for hint in hints):
        result.found = [replace(found, near=nearness(found.grids, hints)) for found in result.found]
    result.found.sort(key=lambda found: -found.score)
    result.seconds = time.monotonic() - began
    return result


def nearness(grids: Sequence[Grid], hints: Sequence[Grid | None]) -> float:
    """Return the mean share of cells in which grids agree with their hints; a grid of another size has none."""
    shares = [
        float((grid == hint).mean()) if grid.shape == hint.shape else 0.0
        for grid, hint in zip(grids, hints, strict=False)
        if hint is not None
    ]
    return sum(shares) / len(shares)


def search_once(
    task: Task, budget: Budget, colours: Colours, turned: int, deadline: float | None, result: Result
) -> None:
    """Add the candidates of one pass, which sees the grids turned, and colours as they are or by their roles."""
    seen = see(task, roles=colours == "roles", turned=turned)
    if colours == "roles" and all((role == IDENTITY).all() for role in seen.roles):
        return
    num_demos = len(task.demos)
    one = Pass(seen.inputs, seen.outputs, budget, deadline)
    for found in one.run():
        program = replace(found.program, colours=colours, turned=turned)
        grids = tuple(unseen(grid, seen.roles[num_demos + k], turned) for k, grid in enumerate(found.grids))
        result.found.append(replace(found, program=program, grids=grids))
    result.states += int(one.states.used[0])
    result.calls += int(one.store.used[CALLS])
    result.pieces += one.num_pieces
    result.exhausted |= one.exhausted
