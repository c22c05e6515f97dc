"""Built-in verifiers, one function each: from evidence to a score in [0, 1] and a description of the errors.

`gridloom.specs.solver_kinds.VERIFIERS` is the registry of built-in verifiers and those of other packages.
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
    """Input of a verifier for one candidate of one test input. No field leads to a held-out answer."""

    task: Task
    test_index: int
    candidate: Candidate
    proposal: Proposal
    size_rules: tuple[SizeRule, ...]
    palette: Palette

    @property
    def test_input(self) -> Grid:
        """Test input that the candidate answers, uint8 [rows, columns]."""
        return self.task.tests[self.test_index]

    @property
    def grid(self) -> Grid:
        """Grid of the candidate, uint8 [rows, columns]."""
        return np.asarray(self.candidate.grid, dtype=np.uint8)


Verify = Callable[[Evidence], Signal]
"""Verifier function: equal evidence gives an equal signal, with the verifier's name and a score in [0, 1] or None."""


def size_text(grid: GridRows | Grid) -> str:
    """Return the size of a grid as 'ROWSxCOLUMNS'."""
    return f"{len(grid)}x{len(grid[0]) if len(grid) else 0}"


def leave_one_out(evidence: Evidence) -> Signal:
    """Share of the check demonstrations (never trained on, or left out of the prompt) that the proposal reproduces
    exactly; None without any."""
    task, checks, checked = evidence.task, evidence.proposal.checks, evidence.proposal.checked
    if not checks:
        return Signal(name="leave_one_out", score=None)
    right, wrong = 0, []
    for index, ranked in zip(task.check if checked is None else checked, checks, strict=True):
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
    """Describe wrong cells without their right colours: the same demonstration checks the next attempt."""
    rows, columns = np.nonzero(proposed != shown)
    first = zip(rows[:3], columns[:3], strict=True)
    cells = [f"({r + 1},{c + 1}) is not {proposed[r, c]}" for r, c in first]
    return f"{rows.size} of {shown.size} cells differ: {', '.join(cells)}{', ...' if rows.size > 3 else ''}"


def agreement(evidence: Evidence) -> Signal:
    """Share of the views that voted for the grid; None with fewer than two views, and for the grid of a program."""
    votes, num_views = evidence.candidate.votes, evidence.candidate.num_views
    if num_views < 2 or evidence.candidate.program is not None:
        return Signal(name="agreement", score=None)
    detail = "" if votes == num_views else f"{votes} of {num_views} views agree"
    return Signal(name="agreement", score=votes / num_views, detail=detail)


def form(evidence: Evidence) -> Signal:
    """Share of voting views with an unbroken border; 0 for a side above 30 or a copy of the input.

    A copy is no error where a demonstration's output equals its input.
    """
    grid, task = evidence.grid, evidence.task
    if max(grid.shape) > 30:
        return Signal(name="form", score=0.0, detail=f"the grid is {size_text(grid)}, larger than 30x30")
    identity = any(np.array_equal(pair.input, pair.output) for pair in task.demos)
    if np.array_equal(grid, evidence.test_input) and not identity:
        return Signal(name="form", score=0.0, detail="the grid is a copy of the input")
    whole = 1.0 if evidence.candidate.whole is None else evidence.candidate.whole
    return Signal(name="form", score=whole, detail="" if whole == 1.0 else "the grid's border has holes")


def shape(evidence: Evidence) -> Signal:
    """Score 1 for a size that a rule of all demonstrations predicts, else 0; None where no rule applies."""
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
    """Share of cells in colours that the demonstrations allow, halved when a colour of every output is missing."""
    grid, rule = evidence.grid, evidence.palette
    allowed = set(np.unique(evidence.test_input).tolist()) | rule.added
    used = set(np.unique(grid).tolist())
    strange = sorted(used - allowed - rule.always)
    missing = sorted(rule.always - used)
    score = 1.0 - float(np.isin(grid, strange).mean())
    details = []
    if strange:
        details.append(f"colour {', '.join(map(str, strange))} never appears that way in the examples")
    if missing:
        score /= 2
        details.append(f"colour {', '.join(map(str, missing))} is in every example output and missing here")
    return Signal(name="palette", score=score, detail="; ".join(details))


def confidence(evidence: Evidence) -> Signal:
    """Mean halting probability of the TRM over the views that voted for the grid."""
    return Signal(name="confidence", score=evidence.candidate.confidence)
