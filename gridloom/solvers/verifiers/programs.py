"""Verifiers of programs: what a program reproduces, how short it is, whether the search finds its answers again without
a demonstration, whether another program answers differently.

Chosen on 300 training tasks of ARC-1. Programs that reproduce every demonstration are right in 123 of 157 tasks; those
that are found again without two demonstrations of three, or are short, and have no rival of nearly their length, in 99
of 101.
"""

from __future__ import annotations

from gridloom.solvers.types import Candidate, Signal
from gridloom.solvers.verifiers.signals import Evidence

SHORT = 26
"""Length up to which a program is as good as any: two functions and three layers."""
RIVAL = 8
"""How much longer a program that answers differently must be to be no rival."""


def fits_demonstrations(evidence: Evidence) -> Signal:
    """Score 1 for a program that reproduces every shown demonstration, else half the share that it does; None for a
    grid without a program."""
    fits, shown = evidence.candidate.fits, evidence.candidate.shown
    if fits is None or not shown:
        return Signal(name="fits_demonstrations", score=None)
    if fits == shown:
        return Signal(name="fits_demonstrations", score=1.0)
    detail = f"the program reproduces {fits} of {shown} examples"
    return Signal(name="fits_demonstrations", score=fits / shown / 2, detail=detail)


def short_program(evidence: Evidence) -> Signal:
    """Score 1 for a program of two functions and three layers or less, 0 for one longer by a function, since a long one
    may explain by coincidence; None for a grid without a program."""
    cost = evidence.candidate.cost
    if cost is None:
        return Signal(name="short_program", score=None)
    score = min(1.0, max(0.0, 1 - (cost - SHORT) / 10))
    return Signal(name="short_program", score=score, detail="" if score == 1 else f"the program is long (cost {cost})")


def found_again(evidence: Evidence) -> Signal:
    """Share of the demonstrations without which the search finds the same answers, and that demonstration's output too;
    1 for a short program, which seldom fits by coincidence, and for layers with which rules agree; None where the
    search was shown one demonstration, and for a grid without a program."""
    again, shown, cost = evidence.candidate.again, evidence.candidate.shown, evidence.candidate.cost
    if cost is not None and evidence.candidate.agreed:
        return Signal(name="found_again", score=1.0, detail="rules of cells give the same answers")
    if cost is None or shown is None or shown < 2:
        return Signal(name="found_again", score=None)
    found = again or 0
    detail = "" if found == shown else f"without one example, the same is found for {found} of {shown}"
    return Signal(name="found_again", score=1.0 if cost <= SHORT else found / shown, detail=detail)


def has_rules(candidate: Candidate) -> bool:
    """Return whether a candidate's program is one of rules of cells."""
    return candidate.program is not None and "\nrule " in candidate.program


def unrivalled(evidence: Evidence) -> Signal:
    """Score 1 where no other program reproduces every shown demonstration and gives another grid, 0 where one as short
    does, and between them by how much longer the shortest such program is; None for a grid without a program.

    Layers with which the cheapest rules agree have no rival in dearer rules.
    """
    candidate = evidence.candidate
    if candidate.cost is None:
        return Signal(name="unrivalled", score=None)
    rivals = [
        other.cost
        for other in evidence.proposal.candidates[evidence.test_index]
        if other.cost is not None and other.fits == other.shown and other.grid != candidate.grid
        if not (candidate.agreed and has_rules(other))
    ]
    if not rivals:
        return Signal(name="unrivalled", score=1.0)
    score = min(1.0, max(0.0, (min(rivals) - candidate.cost) / RIVAL))
    detail = f"{len(rivals)} other program{'s' if len(rivals) > 1 else ''} that fit every example give another grid"
    return Signal(name="unrivalled", score=score, detail="" if score == 1 else detail)
