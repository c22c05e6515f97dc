"""Ledger records of an attempt and of a task's picks. One append each, so that none is ever half there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Pick, Plan, Proposal, Reasoning, Verdict
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    PickRecord,
    Record,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
)


@dataclass(frozen=True, slots=True)
class AttemptScope:
    """Where attempts belong: run, stage, task, and the fingerprints they ran under."""

    run_id: str
    stage: str
    task_id: str
    stage_key: str
    checkpoint_key: str
    fork: int = 0
    parent: str | None = None
    accept: float | None = None
    """The calibrated score from which attempts are accepted; None where the spec's own holds."""

    def attempt_id(self, attempt: int) -> str:
        """Return `TASK.ATTEMPT`, or `TASK.ATTEMPT+FORK`."""
        return f"{self.task_id}.{attempt}" + (f"+{self.fork}" if self.fork else "")


class _Trip(TypedDict):
    """The key that all records of an attempt share."""

    run_id: str
    stage: str
    task_id: str
    attempt: int
    fork: int


def task_record(run_id: str, stage: str, task: Task) -> TaskRecord:
    """Record a task as the solver sees it."""
    return TaskRecord(
        run_id=run_id,
        stage=stage,
        task_id=task.task_id,
        subset=task.subset,
        demos=[{"input": rows(pair.input), "output": rows(pair.output)} for pair in task.demos],
        check_demos=list(task.check),
        tests=[rows(grid) for grid in task.tests],
    )


def verdict_digest(verdict: Verdict) -> str:
    """Return sha256 over the whole verdict; floats by their shortest exact form."""
    return hashlib.sha256(json.dumps(verdict.model_dump(), sort_keys=True).encode()).hexdigest()


def attempt_records(
    scope: AttemptScope,
    *,
    plan: Plan,
    reasoning: Reasoning | None,
    adapted: Mapping[str, Any] | None,
    proposal: Proposal,
    verdict: Verdict,
    model: str | None,
    started_at: float,
    ended_at: float,
    timings: Mapping[str, float],
) -> list[Record]:
    """Return all records of one attempt, the attempt itself first.

    Args:
        model: the LLaMA that was asked; None when none was, as in a fork that keeps the recorded text.
    """
    trip = _Trip(run_id=scope.run_id, stage=scope.stage, task_id=scope.task_id, attempt=plan.attempt, fork=scope.fork)
    digests = {"propose": proposal.digest, "verify": verdict_digest(verdict)}
    if adapted:
        digests["adapt"] = adapted["sha256"]
    geometry: dict[str, Any] = {**proposal.geometry, "digests": digests}
    if adapted:
        geometry["injection_rms"] = adapted["rms"]
    if scope.accept is not None:
        geometry["accept"] = scope.accept
    if reasoning and reasoning.geometry:
        geometry["reason"] = reasoning.geometry
    records: list[Record] = [
        AttemptRecord(
            **trip,
            attempt_id=scope.attempt_id(plan.attempt),
            parent=scope.parent,
            plan=plan.model_dump(mode="json"),
            prompt=reasoning.prompt if reasoning else None,
            text=reasoning.text if reasoning else None,
            latent=reasoning.latent if reasoning else None,
            prefix=reasoning.prefix if reasoning else None,
            grids=proposal.grids(),
            verdict="accepted" if verdict.accepted else "rejected",
            score=verdict.score,
            feedback=verdict.feedback,
            stage_key=scope.stage_key,
            checkpoint_key=scope.checkpoint_key,
            geometry=geometry,
            started_at=started_at,
            ended_at=ended_at,
            timings=dict(timings),
        )
    ]
    if reasoning and model is not None:
        records.append(
            LlmCallRecord(
                **trip,
                model=model,
                prompt_tokens=reasoning.prompt_tokens,
                new_tokens=reasoning.new_tokens,
                prefix_tokens=reasoning.prefix_tokens,
                dropped_demos=reasoning.dropped_demos,
                dropped_attempts=reasoning.dropped_attempts,
                over_budget=reasoning.over_budget,
                temperature=plan.temperature,
                seed=plan.seed,
                duration_s=reasoning.duration_s,
            )
        )
    for test_index, ranked in enumerate(proposal.candidates):
        for rank, candidate in enumerate(ranked):
            records.append(
                CandidateRecord(
                    **trip,
                    test_index=test_index,
                    rank=rank,
                    source=candidate.source,
                    grid=candidate.grid,
                    votes=candidate.votes,
                    num_views=candidate.num_views,
                    confidence=candidate.confidence,
                )
            )
    for signal in verdict.signals:
        records.append(VerdictRecord(**trip, verifier=signal.name, score=signal.score, detail=signal.detail))
    for number, step in enumerate(proposal.steps, start=1):
        records.append(
            TrmStepRecord(
                **trip, act_step=number, q_halt=step.q_halt, changed_cells=step.changed_cells, num_rows=step.num_rows
            )
        )
    return records


def pick_records(scope: AttemptScope, picks: Sequence[Pick], *, accepted: bool, num_attempts: int) -> list[PickRecord]:
    """Return the final picks of a task."""
    return [
        PickRecord(
            run_id=scope.run_id,
            stage=scope.stage,
            task_id=scope.task_id,
            test_index=pick.test_index,
            rank=pick.rank,
            grid=pick.grid,
            weight=pick.weight,
            attempt=pick.attempt,
            accepted=accepted,
            num_attempts=num_attempts,
        )
        for pick in picks
    ]
