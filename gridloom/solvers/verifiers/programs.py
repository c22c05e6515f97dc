"""Verifiers of programs: what a program reproduces, how short it is, whether the search finds its answers again without
a demonstration, whether another program answers differently.

Chosen on the 400 training tasks of ARC-1 (docs/solver.md). Programs that reproduce every demonstration are right in 195
of 241 tasks; of those that the default weights accept, 119 of 120 are.
"""

from __future__ import annotations

from gridloom.solvers.types import Candidate, Signal
from gridloom.solvers.verifiers.signals import Evidence

SHORT = 26
"""Length up to which a program is as good as any: two functions and three layers."""
SHORT_AGAIN = 0.75
"""Least score of a short program that is found again without some demonstration: such a program seldom fits by
coincidence."""
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
    """Score of how often the same answers are found without one demonstration, and that demonstration's output too:
    1 - (1 - share)^2, where `share` is of the demonstrations.

    Layers and rules of cells are found by themselves, each without one demonstration after the other. Where both give
    the answers, `share` is the mean of their shares. Where rules reproduce every demonstration and answer otherwise
    than layers, or rules alone answer, the score is half the share, which no threshold of use accepts. A short program
    that is found again at all has at least `SHORT_AGAIN`. None where the search was shown one demonstration, and for a
    grid without a program.
    """
    one = evidence.candidate
    if one.cost is None or one.shown is None or one.shown < 2:
        return Signal(name="found_again", score=None)
    shown, layers, rules = one.shown, one.again or 0, one.ruled or 0
    if not one.agreed and (one.ruled is not None or has_rules(one)):
        found = rules if has_rules(one) else layers
        why = (
            "rules of cells alone give it"
            if has_rules(one)
            else "rules of cells that fit every example answer otherwise"
        )
        return Signal(name="found_again", score=found / shown / 2, detail=f"{why}; {_without(found, shown)}")
    share = (layers + rules) / (2 * shown) if one.agreed else layers / shown
    score = 1 - (1 - share) ** 2
    if one.cost <= SHORT and share > 0:
        score = max(score, SHORT_AGAIN)
    if share == 1:
        return Signal(name="found_again", score=1.0)
    detail = f"{_without(layers, shown)}, and by rules of cells for {rules}" if one.agreed else _without(layers, shown)
    return Signal(name="found_again", score=score, detail=detail)


def _without(found: int, shown: int) -> str:
    return f"without one example, the same is found for {found} of {shown}"


def has_rules(candidate: Candidate) -> bool:
    """Return whether a candidate's program is one of rules of cells."""
    return candidate.program is not None and "\nrule " in candidate.program


def unrivalled(evidence: Evidence) -> Signal:
    """Score 1 where no other program reproduces every shown demonstration and gives another grid, 0 where one as short
    does, and between them by how much longer the shortest such program is; None for a grid without a program."""
    candidate = evidence.candidate
    if candidate.cost is None:
        return Signal(name="unrivalled", score=None)
    rivals = [
        other.cost
        for other in evidence.proposal.candidates[evidence.test_index]
        if other.cost is not None and other.fits == other.shown and other.grid != candidate.grid
    ]
    if not rivals:
        return Signal(name="unrivalled", score=1.0)
    score = min(1.0, max(0.0, (min(rivals) - candidate.cost) / RIVAL))
    detail = f"{len(rivals)} other program{'s' if len(rivals) > 1 else ''} that fit every example give another grid"
    return Signal(name="unrivalled", score=score, detail="" if score == 1 else detail)
