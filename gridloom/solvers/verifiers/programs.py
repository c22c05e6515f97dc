"""Verifiers of programs: how many demonstrations a program reproduces, and how short it is."""

from __future__ import annotations

from gridloom.solvers.types import Signal
from gridloom.solvers.verifiers.signals import Evidence

FREE_COST = 20
"""Cost up to which a program is as good as any: two functions."""


def fits_demonstrations(evidence: Evidence) -> Signal:
    """Share of the shown demonstrations that the candidate's program reproduces; None for a grid without a program."""
    fits, shown = evidence.candidate.fits, evidence.candidate.shown
    if fits is None or not shown:
        return Signal(name="fits_demonstrations", score=None)
    detail = "" if fits == shown else f"the program reproduces {fits} of {shown} examples"
    return Signal(name="fits_demonstrations", score=fits / shown, detail=detail)


def short_program(evidence: Evidence) -> Signal:
    """Score 1 for a program of two functions or fewer, less for a longer one, which a coincidence may explain; None for
    a grid without a program."""
    cost = evidence.candidate.cost
    if cost is None:
        return Signal(name="short_program", score=None)
    score = FREE_COST / max(cost, FREE_COST)
    return Signal(name="short_program", score=score, detail="" if score == 1 else f"the program is long (cost {cost})")
