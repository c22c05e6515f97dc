"""Ledger records of an attempt and of a task's picks; each is one append, so that none is partially recorded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import BaseModel

from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Pick, Plan, Proposal, Reasoning, Verdict
from gridloom.stores.attempt import KEY, Attempt, columns_of_node, same_named
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    PickRecord,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
)


@dataclass(frozen=True, slots=True)
class AttemptScope:
    """Run, stage and task of attempts, with the keys of stage and checkpoint."""

    run_id: str
    stage: str
    task_id: str
    stage_key: str
    checkpoint_key: str
    fork: int = 0
    parent: str | None = None
    accept: float | None = None
    """Calibrated score from which attempts are accepted, in [0, 1]; None where the spec's threshold applies."""

    def attempt_id(self, attempt: int) -> str:
        """Return `TASK.ATTEMPT`, or `TASK.ATTEMPT+FORK`."""
        return f"{self.task_id}.{attempt}" + (f"+{self.fork}" if self.fork else "")

    @classmethod
    def of_fork(cls, row: AttemptRecord, fork: int) -> AttemptScope:
        """Return the scope of a fork of a recorded attempt, with the same acceptance threshold."""
        values = {one.name: getattr(row, one.name) for one in fields(cls) if one.name != "accept"}
        return cls(**{**values, "fork": fork, "parent": row.attempt_id}, accept=row.geometry.get("accept"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of the loop's nodes for one attempt, executed or re-executed."""

    plan: Plan
    reasoning: Reasoning | None
    adapted: Mapping[str, Any] | None
    """sha256 and RMS of the injection into the TRM; None without an injection."""
    proposal: Proposal
    verdict: Verdict
    timings: Mapping[str, float]
    """Node -> seconds."""
    started_at: float
    ended_at: float


def task_record(run_id: str, stage: str, task: Task) -> TaskRecord:
    """Return the record of a task without its held-out answers."""
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
    """Return sha256 over the whole verdict; floats are written in their shortest exact form."""
    return hashlib.sha256(json.dumps(verdict.model_dump(), sort_keys=True).encode()).hexdigest()


def attempt_of(scope: AttemptScope, outcome: Outcome, model: str | None) -> Attempt:
    """Return the record of one attempt.

    Columns with the name of a field in a node's result are copied from the result; the others are named here.

    Args:
        model: LLaMA that ran; None when none ran, as in a fork that keeps the recorded text.
    """
    plan, reasoning, proposal, verdict = outcome.plan, outcome.reasoning, outcome.proposal, outcome.verdict
    row = AttemptRecord(
        **same_named(AttemptRecord, asdict(scope)),
        attempt=plan.attempt,
        attempt_id=scope.attempt_id(plan.attempt),
        plan=plan.model_dump(mode="json"),
        **_columns("reason", reasoning),
        **_columns("propose", proposal),
        grids=proposal.grids(),
        **_columns("verify", verdict),
        verdict="accepted" if verdict.accepted else "rejected",
        geometry=_geometry(scope, outcome),
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
        timings=dict(outcome.timings),
    )
    key = {name: getattr(row, name) for name in KEY}
    llm_call = None
    if reasoning and model is not None:
        asks = proposal.asks
        spent = {
            "prompt_tokens": reasoning.prompt_tokens + sum(ask.prompt_tokens for ask in asks),
            "new_tokens": reasoning.new_tokens + sum(ask.new_tokens for ask in asks),
            "duration_s": reasoning.duration_s + sum(ask.duration_s for ask in asks),
            "num_calls": 1 + len(asks),
        }
        columns = same_named(LlmCallRecord, dict(plan) | dict(reasoning) | spent)
        llm_call = LlmCallRecord(**{**columns, **key, "model": model})
    return Attempt(
        row=row,
        llm_call=llm_call,
        candidates=candidate_records(key, proposal),
        verdicts=tuple(
            VerdictRecord(**key, verifier=signal.name, **same_named(VerdictRecord, dict(signal)))
            for signal in verdict.signals
        ),
        trm_steps=tuple(
            TrmStepRecord(**key, act_step=number, **same_named(TrmStepRecord, dict(step)))
            for number, step in enumerate(proposal.steps, start=1)
        ),
    )


def candidate_records(key: Mapping[str, Any], proposal: Proposal) -> tuple[CandidateRecord, ...]:
    """Return the candidate records of the attempt with that key, by test input and rank."""
    return tuple(
        CandidateRecord(**key, test_index=test_index, rank=rank, **same_named(CandidateRecord, dict(candidate)))
        for test_index, ranked in enumerate(proposal.candidates)
        for rank, candidate in enumerate(ranked)
    )


def _columns(node: str, result: BaseModel | None) -> dict[str, Any]:
    """Return the columns filled from a node's result; none where the node did not run."""
    return {} if result is None else {name: getattr(result, name) for name in columns_of_node(node)}


def _geometry(scope: AttemptScope, outcome: Outcome) -> dict[str, Any]:
    """Return the conditions of bit-equal re-execution, and the digests that a replay compares."""
    reasoning, adapted = outcome.reasoning, outcome.adapted
    digests = {"propose": outcome.proposal.digest, "verify": verdict_digest(outcome.verdict)}
    if adapted:
        digests["adapt"] = adapted["sha256"]
    geometry: dict[str, Any] = {**outcome.proposal.geometry, "digests": digests}
    if adapted:
        geometry["injection_rms"] = adapted["rms"]
    if scope.accept is not None:
        geometry["accept"] = scope.accept
    if reasoning and reasoning.geometry:
        geometry["reason"] = reasoning.geometry
    return geometry


def pick_records(scope: AttemptScope, picks: Sequence[Pick], *, accepted: bool, num_attempts: int) -> list[PickRecord]:
    """Return the records of a task's final picks."""
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
