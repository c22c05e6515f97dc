"""Built-in verifiers, one function each: evidence in, a score in [0, 1] and what is wrong out.

`gridloom.specs.solver_kinds.VERIFIERS` names their places, and those of other packages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Grid, Task
from gridloom.solvers.types import Candidate, Proposal, Signal
from gridloom.solvers.verifiers.rules import Palette, SizeRule, expected_sizes


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verifier may look at for one candidate of one test input. There is no way to a held-out answer."""

    task: Task
    test_index: int
    candidate: Candidate
    proposal: Proposal
    size_rules: tuple[SizeRule, ...]
    palette: Palette

    @property
    def test_input(self) -> Grid:
        """The test input the candidate answers, uint8 [rows, columns]."""
        return self.task.tests[self.test_index]

    @property
    def grid(self) -> Grid:
        """The candidate's grid, uint8 [rows, columns]."""
        return np.asarray(self.candidate.grid, dtype=np.uint8)


Verify = Callable[[Evidence], Signal]
"""A verifier: equal evidence gives an equal signal, which bears the verifier's name and a score in [0, 1] or None."""


def size_text(grid: GridRows | Grid) -> str:
    """Return 'ROWSxCOLUMNS'."""
    return f"{len(grid)}x{len(grid[0]) if len(grid) else 0}"


def leave_one_out(evidence: Evidence) -> Signal:
    """Share of the demonstrations that training never saw which the same conditioning reproduces exactly."""
    task, checks = evidence.task, evidence.proposal.checks
    if not checks:
        return Signal(name="leave_one_out", score=None)
    right, wrong = 0, []
    for index, ranked in zip(task.check, checks, strict=True):
        shown = task.demos[index].output
        if not ranked:
            wrong.append(f"on example {index + 1} no grid could be read")
            continue
        proposed = np.asarray(ranked[0].grid, dtype=np.uint8)
        if proposed.shape != shown.shape:
            wrong.append(f"on example {index + 1} your rule gives {size_text(proposed)}, shown is {size_text(shown)}")
        elif not np.array_equal(proposed, shown):
            wrong.append(f"on example {index + 1} {_cells(proposed, shown)}")
        else:
            right += 1
    return Signal(name="leave_one_out", score=right / len(checks), detail="; ".join(wrong))


def _cells(proposed: Grid, shown: Grid) -> str:
    """Name wrong cells but not their right colours: the next attempt is checked against the same demonstration."""
    rows, columns = np.nonzero(proposed != shown)
    first = zip(rows[:3], columns[:3], strict=True)
    cells = [f"({r + 1},{c + 1}) is not {proposed[r, c]}" for r, c in first]
    return f"{rows.size} of {shown.size} cells differ: {', '.join(cells)}{', ...' if rows.size > 3 else ''}"


def agreement(evidence: Evidence) -> Signal:
    """Share of the views that voted for the grid; nothing to say of fewer than two views."""
    votes, num_views = evidence.candidate.votes, evidence.candidate.num_views
    if num_views < 2:
        return Signal(name="agreement", score=None)
    detail = "" if votes == num_views else f"{votes} of {num_views} views agree"
    return Signal(name="agreement", score=votes / num_views, detail=detail)


def form(evidence: Evidence) -> Signal:
    """Whole borders, sides of 1 to 30, and not a copy of the input unless a demonstration is one."""
    grid, task = evidence.grid, evidence.task
    if max(grid.shape) > 30:
        return Signal(name="form", score=0.0, detail=f"the grid is {size_text(grid)}, larger than 30x30")
    identity = any(np.array_equal(pair.input, pair.output) for pair in task.demos)
    if np.array_equal(grid, evidence.test_input) and not identity:
        return Signal(name="form", score=0.0, detail="the grid is a copy of the input")
    whole = 1.0 if evidence.candidate.whole is None else evidence.candidate.whole
    return Signal(name="form", score=whole, detail="" if whole == 1.0 else "the grid's border has holes")


def shape(evidence: Evidence) -> Signal:
    """Size that some law of all demonstrations expects; nothing to say where no law holds."""
    sizes = expected_sizes(evidence.size_rules, evidence.test_input)
    if not sizes:
        return Signal(name="shape", score=None)
    actual = (evidence.grid.shape[0], evidence.grid.shape[1])
    if actual in sizes:
        return Signal(name="shape", score=1.0)
    (height, width), rule = next(iter(sizes.items()))
    detail = f"shape rule broken: {actual[0]}x{actual[1]}, the examples say {height}x{width} ({rule})"
    return Signal(name="shape", score=0.0, detail=detail)


def palette(evidence: Evidence) -> Signal:
    """Share of cells in colours the demonstrations allow, halved when a colour of every output is missing."""
    grid, rule = evidence.grid, evidence.palette
    allowed = set(np.unique(evidence.test_input).tolist()) | rule.added
    used = set(np.unique(grid).tolist())
    strange = sorted(used - allowed - rule.always)
    missing = sorted(rule.always - used)
    score = 1.0 - float(np.isin(grid, strange).mean())
    said = []
    if strange:
        said.append(f"colour {', '.join(map(str, strange))} never appears that way in the examples")
    if missing:
        score /= 2
        said.append(f"colour {', '.join(map(str, missing))} is in every example output and missing here")
    return Signal(name="palette", score=score, detail="; ".join(said))


def confidence(evidence: Evidence) -> Signal:
    """The TRM's mean halting probability over the views that voted for the grid."""
    return Signal(name="confidence", score=evidence.candidate.confidence)
