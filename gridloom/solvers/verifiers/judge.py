"""Combination of verifier signals into one verdict: weighted mean, acceptance, and feedback for the next attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gridloom.errors import PluginError
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Candidate, Proposal, Signal, Verdict
from gridloom.solvers.verifiers.rules import fit_palette, fit_size_rules
from gridloom.solvers.verifiers.signals import Evidence, Verify, size_text
from gridloom.specs.solver import Verifier
from gridloom.specs.solver_kinds import VERIFIERS

OF_PROGRAMS = {"fits_demonstrations": 4.0, "short_program": 1.0, "unrivalled": 4.0, "found_again": 4.0}
"""Verifiers of programs with their weights where a spec gives none; they judge no other proposal."""
_ORDER = ("leave_one_out", "shape", "palette", "form", "agreement")
"""Signals in the order of the feedback text, the most informative first; signals of other verifiers follow."""


def weighted_mean(signals: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """Return the weighted mean of the signals that have a score; 0 when none has."""
    total = sum(weights[name] for name, score in signals.items() if score is not None)
    if total == 0:
        return 0.0
    return sum(weights[name] * score for name, score in signals.items() if score is not None) / total


class Judge:
    """Judge of the attempts at one task. Rules are fitted once, on the demonstrations."""

    def __init__(self, task: Task, settings: Verifier) -> None:
        """Load the verifiers that have a weight above 0.

        Raises:
            PluginError: no installed package provides one of the verifiers, or that package cannot be loaded.
        """
        self.task = task
        self.settings = settings
        self.weights = {name: weight for name, weight in settings.weights().items() if weight > 0}
        given = settings.weights()
        self._of_programs = {name: given.get(name, weight) for name, weight in OF_PROGRAMS.items()}
        self._verifiers: dict[str, Verify] = {name: VERIFIERS.get(name) for name in {**self.weights, **OF_PROGRAMS}}
        self._size_rules = fit_size_rules(task.demos)
        self._palette = fit_palette(task.demos)

    def verdict(self, proposal: Proposal) -> Verdict:
        """Judge a proposal: an attempt is as good as its worst test input, and a missing grid scores 0.

        A grid read from text alone is accepted only where further answers of the model confirm it: the rules that apply
        to such a grid (form, size, colours) can refute a wrong grid, and cannot separate a right one from a likely one.
        """
        weights_of = self._weights_for(proposal)
        per_test = [
            [self._signals(index, candidate, proposal, weights_of) for candidate in ranked]
            for index, ranked in enumerate(proposal.candidates)
        ]
        weights = tuple(
            tuple(weighted_mean({s.name: s.score for s in signals}, weights_of) for signals in ranked)
            for ranked in per_test
        )
        asked = range(len(per_test)) if proposal.only is None else (proposal.only,)
        firsts = {index: per_test[index][0] if per_test[index] else None for index in asked}
        signals = self._worst(proposal, firsts, weights_of)
        score = weighted_mean({s.name: s.score for s in signals}, weights_of)
        accepted = (
            bool(proposal.candidates)
            and (all(proposal.candidates) if proposal.only is None else proposal.confirmed)
            and score >= self.settings.accept
        )
        return Verdict(
            accepted=accepted,
            score=score,
            signals=tuple(signals),
            feedback="" if accepted else self._feedback(proposal, signals),
            weights=weights,
        )

    def _weights_for(self, proposal: Proposal) -> dict[str, float]:
        """Return the weights of the verifiers that judge a proposal: those of programs only where it has any."""
        if not any(candidate.program for ranked in proposal.candidates for candidate in ranked):
            return self.weights
        return {**self.weights, **{name: weight for name, weight in self._of_programs.items() if weight > 0}}

    def _signals(self, test_index: int, candidate: Candidate, proposal: Proposal, names: Iterable[str]) -> list[Signal]:
        evidence = Evidence(self.task, test_index, candidate, proposal, self._size_rules, self._palette)
        return [_checked(name, self._verifiers[name](evidence)) for name in names]

    def _worst(
        self, proposal: Proposal, per_test: Mapping[int, list[Signal] | None], names: Iterable[str]
    ) -> list[Signal]:
        """Return each verifier's lowest signal over the test inputs; score 0 for all when a test input has no grid."""
        missing = [i for i, signals in per_test.items() if signals is None]
        if missing or not per_test:
            which = ", ".join(str(i + 1) for i in missing) or "1"
            detail = f"no grid could be read for test input {which}{_why(proposal)}"
            return [Signal(name=name, score=0.0, detail=detail) for name in names]
        worst = []
        for of_verifier in zip(*(signals for signals in per_test.values() if signals is not None), strict=True):
            scored = [signal for signal in of_verifier if signal.score is not None]
            worst.append(min(scored, key=lambda s: s.score or 0.0) if scored else of_verifier[0])
        return worst

    def _feedback(self, proposal: Proposal, signals: list[Signal]) -> str:
        """Return the feedback text, made from demonstrations and model outputs alone."""
        by_name = {signal.name: signal.detail for signal in signals if signal.detail}
        # details of the verifiers of programs also give grounds for trust
        by_name |= {signal.name: "" for signal in signals if signal.name in OF_PROGRAMS and signal.score == 1}
        names = dict.fromkeys((*_ORDER, *self.weights, *OF_PROGRAMS))
        details = list(dict.fromkeys(by_name[name] for name in names if by_name.get(name)))
        grids = proposal.grids() if proposal.only is None else [proposal.grids()[proposal.only]]
        sizes = ", ".join(size_text(grid) if grid else "none" for grid in grids)
        return f"proposed {sizes}: " + ("; ".join(details) if details else "the views are not sure of it")


def _why(proposal: Proposal) -> str:
    """Return why the text of a language model alone holds no grid; empty where nothing is recorded of it."""
    note = (proposal.reading or {}).get("note")
    return f": {note}" if note and proposal.only is not None else ""


def _checked(name: str, signal: Signal) -> Signal:
    """Return a verifier's signal. Raises PluginError for a wrong name or a score outside [0, 1]."""
    if signal.name != name:
        raise PluginError(
            f"verifier {name!r} returned a signal named {signal.name!r}",
            f"correct the verifier: Signal(name={name!r}, ...)",
        )
    if signal.score is not None and not 0 <= signal.score <= 1:
        raise PluginError(
            f"verifier {name!r} returned the score {signal.score}, outside [0, 1]",
            "correct the verifier; where no score can be computed, it returns None",
        )
    return signal
