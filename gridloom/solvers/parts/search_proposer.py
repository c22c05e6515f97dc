"""Proposer that searches programs, alone or before and after another proposer."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.runners import machine
from gridloom.solvers.parts.services import Loaded, Proposer
from gridloom.solvers.search.found import Budget, Found
from gridloom.solvers.search.programs import LANGUAGE
from gridloom.solvers.search.search import search
from gridloom.solvers.types import Candidate, Plan, Proposal, SearchPlan
from gridloom.specs.solver import SEARCH_VERSION, Search

NAME = "search"
"""Name of the proposer, and source of its candidates."""
MOST_CANDIDATES = 10
"""Candidates of a test input that are recorded."""
SHARES = (70, 20, 5, 2, 1)
"""Votes of the candidates in their order, of `NUM_VOTES`; together less than all, as those of views are."""
NUM_VOTES = 100
KEY = f"search:{SEARCH_VERSION}"
"""Key of the search in place of a checkpoint's."""


def search_plan(search: Search, turn: int) -> SearchPlan:
    """Return the budget of the search attempt number `turn`, from 0; after the last depth it stays at that."""
    depth = search.depths[min(turn, len(search.depths) - 1)]
    return SearchPlan(depth=depth, **search.model_dump(exclude={"depths"}))


class SearchProposer:
    """Proposer that answers by programs that reproduce demonstrations; it has no model and no views."""

    def __init__(self, default: SearchPlan) -> None:
        """Keep the budget of attempts whose plan has none."""
        self._default = default

    @property
    def act_steps(self) -> int:
        """Number of ACT steps, always 0."""
        return 0

    def views(self, task: Task) -> tuple[str, ...]:
        """Return no views: a search turns and recolours by itself."""
        return ()

    def adapt(self, latent: bytes) -> None:
        """Ignore a latent."""

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Search programs on the demonstrations that are not check demonstrations.

        The grids for the inputs of check demonstrations are those of the same programs.
        """
        began = time.perf_counter()
        budget = plan.search or self._default
        shown = tuple(pair for index, pair in enumerate(task.demos) if index not in task.check)
        inputs = (*task.tests, *(pair.input for pair in task.check_pairs))
        asked = replace(task, demos=shown or task.demos, tests=inputs, known=(), check=())
        hints = [np.array(hint, dtype=np.uint8) if hint else None for hint in budget.hints or ()]
        result = search(
            asked,
            Budget(
                depth=budget.depth,
                states=budget.states,
                pieces=budget.pieces,
                megabytes=budget.megabytes,
                rules=budget.rules,
                turns=budget.turns,
                seconds=budget.seconds,
            ),
            hints,
        )
        ranked = [ranked_candidates(result.found, index) for index in range(len(inputs))]
        return Proposal(
            candidates=tuple(ranked[: len(task.tests)]),
            checks=tuple(ranked[len(task.tests) :]),
            digest=_digest(result.found),
            geometry={
                **machine(torch.device("cpu")),
                "search": {
                    "language": LANGUAGE,
                    "version": SEARCH_VERSION,
                    "states": result.states,
                    "exhausted": result.exhausted,
                },
            },
            seconds=time.perf_counter() - began,
        )


class WithSearch:
    """Proposer that searches in the attempts whose plan says so, and asks another proposer in the others."""

    def __init__(self, inner: Proposer, searching: SearchProposer) -> None:
        self.inner, self._searching = inner, searching

    def over(self, inner: Proposer) -> WithSearch:
        """Return the same proposer over another inner one."""
        other = copy.copy(self)
        other.inner = inner
        return other

    @property
    def act_steps(self) -> int:
        """Number of ACT steps of the inner proposer."""
        return self.inner.act_steps

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the inner proposer's views of the task."""
        return self.inner.views(task)

    def adapt(self, latent: bytes) -> dict[str, Any] | None:
        """Map a latent by the inner proposer."""
        return self.inner.adapt(latent)

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Propose by a search or by the inner proposer."""
        chosen = self.inner if plan.search is None else self._searching
        return await chosen.propose(task, plan, latent)


def load_proposer(loaded: Loaded) -> SearchProposer:
    """Return a proposer of kind `search`."""
    return SearchProposer(search_plan(loaded.settings.search or Search(), 0))


def ranked_candidates(found: Sequence[Found], index: int) -> tuple[Candidate, ...]:
    """Return the distinct grids for one input, best first; a grid has the best of its programs."""
    seen: set[bytes] = set()
    ranked: list[Candidate] = []
    for one in found:
        grid = one.grids[index]
        key = bytes(grid.shape) + grid.tobytes()
        if key in seen or len(ranked) == MOST_CANDIDATES:
            continue
        seen.add(key)
        share = SHARES[len(ranked)] if len(ranked) < len(SHARES) else 0
        fits = sum(one.fits)
        ranked.append(
            Candidate(
                grid=rows(grid),
                source=NAME,
                # a program that misses demonstrations weighs less than any network's grid
                votes=share if fits == len(one.fits) and one.whole else share // 4,
                num_views=NUM_VOTES,
                program=str(one.program),
                fits=fits,
                shown=len(one.fits),
                cost=one.length,
                again=sum(one.again) if one.again else None,
                ruled=sum(one.ruled) if one.ruled else None,
                agreed=one.agreed,
            )
        )
    return tuple(ranked)


def _digest(found: Sequence[Found]) -> str:
    """Return sha256 over programs, fits and grids of the candidates in order."""
    state = hashlib.sha256(b"gridloom search 1\n")
    for one in found:
        state.update(str(one.program).encode())
        state.update(bytes(one.fits))
        for grid in one.grids:
            state.update(bytes(grid.shape) + np.ascontiguousarray(grid).tobytes())
    return state.hexdigest()
