"""Re-execution of one attempt: its inputs, its outcome, and the comparison with the record."""

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
class ReplayJob:
    """Attempt to re-execute, with stage, models, task and plan."""

    recorded: Recorded
    stage: SolveStage
    services: Services
    proposer: Proposer
    """Proposer that runs the attempt's rows at their recorded place in the batch."""
    task: Task
    plan: Plan
    changes: Mapping[str, tuple[Any, Any]]


def make_outcome(
    plan: Plan,
    reasoning: Reasoning | None,
    adapted: Mapping[str, Any] | None,
    proposal: Proposal,
    verdict: Verdict,
    timings: Mapping[str, float],
) -> Outcome:
    """Return the outcome of a re-execution that ends now; its start is now minus the sum of `timings`."""
    ended_at = time.time()
    return Outcome(plan, reasoning, adapted, proposal, verdict, timings, ended_at - sum(timings.values()), ended_at)


def settings_of(job: ReplayJob) -> Solver:
    """Return the solver settings with the threshold that the attempt was judged by."""
    settings = job.stage.solver
    accept = job.recorded.row.geometry.get("accept")
    return settings if accept is None else accepting_from(settings, accept)


def make_report(job: ReplayJob, outcome: Outcome, device: str, live: bool, notes: Sequence[str]) -> ReplayReport:
    """Return the comparison of an outcome with the record."""
    row = job.recorded.row
    return ReplayReport(
        attempt_id=row.attempt_id,
        run_id=row.run_id,
        stage=row.stage,
        checkpoint_key=row.checkpoint_key,
        nodes=tuple(compare(job.recorded, outcome, live)),
        grids_equal=outcome.proposal.grids() == row.grids,
        verdict_equal=verdict_digest(outcome.verdict) == row.geometry["digests"]["verify"],
        score=outcome.verdict.score,
        verdict="accepted" if outcome.verdict.accepted else "rejected",
        grids=outcome.proposal.grids(),
        device=device,
        live=live,
        changes=job.changes,
        notes=tuple(notes),
        seconds=sum(outcome.timings.values()),
        recorded_verdict=row.verdict,
    )


def compare(recorded: Recorded, outcome: Outcome, live: bool) -> list[NodeReport]:
    """Return one report per executed node, in the order of the loop."""
    nodes = []
    if outcome.reasoning is not None and live:
        nodes.append(compare_reasoning(recorded, outcome.reasoning))
    if outcome.adapted is not None:
        nodes.append(compare_adapt(recorded, outcome.adapted))
    nodes.append(compare_proposal(recorded, outcome.proposal))
    nodes.append(compare_verdict(recorded, outcome.verdict))
    return nodes
