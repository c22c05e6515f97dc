"""One attempt executed again: what with, what came out, and how that compares with its record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.recording import Outcome, verdict_digest
from gridloom.solvers.parts.services import Proposer, Services
from gridloom.solvers.replay.report import (
    NodeReport,
    Recorded,
    ReplayReport,
    compare_adapt,
    compare_proposal,
    compare_reasoning,
    compare_verdict,
)
from gridloom.solvers.stages.threshold import accepting_from
from gridloom.solvers.types import Plan, Proposal, Reasoning, Verdict
from gridloom.specs.solver import Solver
from gridloom.specs.stages import SolveStage


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """An attempt to execute again, and with what."""

    recorded: Recorded
    stage: SolveStage
    services: Services
    proposer: Proposer
    """At the attempt's recorded place in its batch."""
    task: Task
    plan: Plan
    changes: Mapping[str, tuple[Any, Any]]


def executed(
    plan: Plan,
    reasoning: Reasoning | None,
    adapted: Mapping[str, Any] | None,
    proposal: Proposal,
    verdict: Verdict,
    timings: Mapping[str, float],
) -> Outcome:
    """Return what a re-execution that ends now gave; it began as long ago as its nodes took."""
    ended_at = time.time()
    return Outcome(plan, reasoning, adapted, proposal, verdict, timings, ended_at - sum(timings.values()), ended_at)


def settings_of(again: Again) -> Solver:
    """Return the settings that the attempt was judged by."""
    settings = again.stage.solver
    accept = again.recorded.row.geometry.get("accept")
    return settings if accept is None else accepting_from(settings, accept)


def make_report(again: Again, outcome: Outcome, device: str, live: bool, notes: Sequence[str]) -> ReplayReport:
    """Compare what came out with the record."""
    row = again.recorded.row
    return ReplayReport(
        attempt_id=row.attempt_id,
        run_id=row.run_id,
        stage=row.stage,
        checkpoint_key=row.checkpoint_key,
        nodes=tuple(compare(again.recorded, outcome, live)),
        grids_equal=outcome.proposal.grids() == row.grids,
        verdict_equal=verdict_digest(outcome.verdict) == row.geometry["digests"]["verify"],
        score=outcome.verdict.score,
        verdict="accepted" if outcome.verdict.accepted else "rejected",
        grids=outcome.proposal.grids(),
        device=device,
        live=live,
        changes=again.changes,
        notes=tuple(notes),
        seconds=sum(outcome.timings.values()),
    )


def compare(recorded: Recorded, outcome: Outcome, live: bool) -> list[NodeReport]:
    """Compare node by node, as far as they were executed."""
    nodes = []
    if outcome.reasoning is not None and live:
        nodes.append(compare_reasoning(recorded, outcome.reasoning))
    if outcome.adapted is not None:
        nodes.append(compare_adapt(recorded, outcome.adapted))
    nodes.append(compare_proposal(recorded, outcome.proposal))
    nodes.append(compare_verdict(recorded, outcome.verdict))
    return nodes
