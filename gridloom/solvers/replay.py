"""Replay: re-execute recorded attempts from their records and compare bit for bit; or fork one with a changed plan."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import ReplayError
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.stage import Progress
from gridloom.solvers.calibration import accepting_from
from gridloom.solvers.loading import load_services, load_writer
from gridloom.solvers.nodes import with_text_grid
from gridloom.solvers.overrides import override_plan
from gridloom.solvers.proposer import TrmProposer
from gridloom.solvers.recording import AttemptScope, attempt_records, verdict_digest
from gridloom.solvers.replay_record import place, recorded_reasoning, recorded_task, recorded_threads, timed
from gridloom.solvers.replay_report import (
    NodeReport,
    Recorded,
    ReplayReport,
    compare_adapt,
    compare_proposal,
    compare_reasoning,
    compare_verdict,
)
from gridloom.solvers.runners import PlacedRunner, frames, placed_desk
from gridloom.solvers.services import Proposer, Services
from gridloom.solvers.text_proposer import TextProposer
from gridloom.solvers.types import Candidate, Entry, Plan, Prompt, Proposal, Reasoning, Verdict
from gridloom.solvers.verifiers import Judge
from gridloom.specs.solver import Solver
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter, as_dict
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    Record,
    ReplayRecord,
    RunRecord,
    TaskRecord,
    VerdictRecord,
)
from gridloom.stores.workspace import Workspace


def replay(
    workspace: Workspace,
    attempt_id: str,
    *,
    run_id: str | None = None,
    live: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> ReplayReport:
    """Re-execute one attempt from its record.

    Args:
        run_id: the run it belongs to; the latest that has it when None.
        live: run the LLaMA too, in place of the recorded text and latent.
        overrides: `KEY=VALUE` changes of the plan; the outcome is recorded as a fork of the attempt.

    Raises:
        ReplayError: unknown attempt, or its record or checkpoint is not at hand.
    """
    return Replayer(workspace, progress).one(attempt_id, run_id=run_id, live=live, overrides=overrides)


def replay_failed(
    workspace: Workspace, *, run_id: str | None = None, live: bool = False, progress: Progress | None = None
) -> Iterator[ReplayReport]:
    """Re-execute every failed attempt of a run (the latest with a solve stage), models loaded once."""
    ledger = Ledger(workspace)
    run_id = run_id or ledger.latest_run()
    if run_id is None:
        raise ReplayError("no run with a solve stage is recorded", "gridloom run quickstart makes one")
    failed = [row for row in ledger.attempts(run_id, failed=True) if row["fork"] == 0]
    replayer = Replayer(workspace, progress)
    records = {_key(record.attempt): record for record in replayer.recorded(run_id)}
    with progress.task("replay", len(failed), unit="attempts") if progress else nullcontext() as bar:
        for frame in _frames([records[_key(row)] for row in failed], live):
            yield from replayer.together(frame, live=live)
            if bar is not None:
                bar.advance(len(frame))


def _frames(attempts: Sequence[Recorded], live: bool) -> Iterator[list[Recorded]]:
    """Group attempts that can share a batch: recorded alike, at places that do not overlap. Live ones run alone, since
    what they share a LLaMA batch with would show in the bits."""
    if live:
        yield from ([attempt] for attempt in attempts)
        return
    kinds: dict[tuple[Any, ...], list[Recorded]] = {}
    for attempt in attempts:
        row, geometry = attempt.attempt, attempt.attempt["geometry"]
        kind = (
            *(row[name] for name in ("stage", "checkpoint_key")),
            *(geometry.get(name) for name in ("device", "device_name", "torch", "threads", "batch_rows")),
            row["plan"]["act_steps"], row["latent"] is None,
        )  # fmt: skip
        kinds.setdefault(kind, []).append(attempt)
    for alike in kinds.values():
        geometries = [attempt.attempt["geometry"] for attempt in alike]
        if "batch_rows" not in geometries[0]:  # no TRM ran
            yield alike
            continue
        spans = [(shape["first_row"], shape["first_row"] + shape["rows"]) for shape in geometries]
        yield from ([alike[index] for index in frame] for frame in frames(spans))


def _key(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return row["stage"], row["task_id"], row["attempt"], row["fork"]


class Replayer:
    """Re-executes attempts; keeps the models it has loaded."""

    def __init__(self, workspace: Workspace, progress: Progress | None = None) -> None:
        self.workspace = workspace
        self.ledger = Ledger(workspace)
        self._progress = progress
        self._services: dict[tuple[str, bool, str], Services] = {}
        self._stages: dict[tuple[str, str], tuple[SolveStage, StageNode, RunRecord]] = {}

    def one(
        self, attempt_id: str, *, run_id: str | None = None, live: bool = False, overrides: Sequence[str] = ()
    ) -> ReplayReport:
        """Replay the attempt of that id. Raises ReplayError."""
        row = self.ledger.attempt(attempt_id, run_id)
        if row["task"] is None:
            said = f"the task of attempt {attempt_id} is not in the ledger"
            raise ReplayError(said, "collect the journals of its run")
        recorded = Recorded(row, row["task"], row["candidates"], row["verdicts"])
        return self.again(recorded, live=live, overrides=overrides)

    def recorded(self, run_id: str) -> list[Recorded]:
        """Return every attempt of a run, read in bulk."""
        candidates: dict[Any, list[dict[str, Any]]] = {}
        verdicts: dict[Any, list[dict[str, Any]]] = {}
        for into, kind in ((candidates, CandidateRecord), (verdicts, VerdictRecord)):
            for record in map(as_dict, self.ledger.read(kind, run_id=run_id)):
                into.setdefault(_key(record), []).append(record)
        tasks = {(t.stage, t.task_id): as_dict(t) for t in self.ledger.read(TaskRecord, run_id=run_id)}
        found = []
        for row in map(as_dict, self.ledger.read(AttemptRecord, run_id=run_id)):
            key = _key(row)
            task = tasks[row["stage"], row["task_id"]]
            found.append(Recorded(row, task, candidates.get(key, []), verdicts.get(key, [])))
        return found

    def again(self, recorded: Recorded, *, live: bool = False, overrides: Sequence[str] = ()) -> ReplayReport:
        """Re-execute one recorded attempt, compare, and record the replay (and the fork, when the plan is changed)."""
        return self.together([recorded], live=live, overrides=overrides)[0]

    def together(
        self, frame: Sequence[Recorded], *, live: bool = False, overrides: Sequence[str] = ()
    ) -> list[ReplayReport]:
        """Re-execute attempts of one frame: of one stage, checkpoint, device and number of threads, at free places."""
        first = frame[0].attempt
        stage, node, run = self._stage(first["run_id"], first["stage"])
        device, notes = place(first["geometry"])
        services = self._load(first, stage, node, run, device, live)
        placed = _placing(services)
        again = [_Again(recorded, stage, services, placed(recorded.attempt["geometry"]),
                        *self._changed(recorded, services, live, overrides)) for recorded in frame]

        async def execute() -> list[_Outcome]:
            return await asyncio.gather(*(self._execute(attempt, live) for attempt in again))

        with recorded_threads(first["geometry"], notes):
            outcomes = asyncio.run(execute())
        reports, records = [], []
        for attempt, outcome in zip(again, outcomes, strict=True):
            report, kept = self._recorded_as(attempt, outcome, _report(attempt, outcome, device, live, notes))
            reports.append(report)
            records += kept
        with LedgerWriter(self.workspace, first["run_id"]) as writer:
            writer.append(*records)
        return reports

    def _changed(
        self, recorded: Recorded, services: Services, live: bool, overrides: Sequence[str]
    ) -> tuple[Task, Plan, Mapping[str, tuple[Any, Any]]]:
        task = recorded_task(recorded.task)
        known = tuple(services.proposer.views(task))
        plan = Plan.model_validate(recorded.attempt["plan"])
        has_text = recorded.attempt["prompt"] is not None
        return task, *override_plan(plan, overrides, known, has_text=has_text, live=live)

    async def _execute(self, again: _Again, live: bool) -> _Outcome:
        row, plan, services = again.recorded.attempt, again.plan, again.services
        timings: dict[str, float] = {}
        with services.hub.member():
            reasoning = recorded_reasoning(row)
            if live and reasoning is not None:
                reasoning = await self._reason(again, timings)
            adapted = None
            if reasoning is not None and reasoning.latent is not None:
                with timed(timings, "adapt"):
                    adapted = again.proposer.adapt(reasoning.latent)
            proposal = await again.proposer.propose(again.task, plan, reasoning.latent if reasoning else None)
            timings["propose"] = proposal.seconds
            if reasoning is not None:
                proposal = with_text_grid(proposal, plan, reasoning.text)
            with timed(timings, "verify"):
                verdict = Judge(again.task, _settings(again).verifier).verdict(proposal)
        return _Outcome(plan, reasoning, adapted, proposal, verdict, timings, time.time())

    async def _reason(self, again: _Again, timings: dict[str, float]) -> Reasoning:
        row, plan, reasoner = again.recorded.attempt, again.plan, again.services.reasoner
        assert reasoner is not None, "live replays load the LLaMA"
        prefix = row["prefix"] if plan.prefix else None
        prompt = Prompt(text=row["prompt"], num_tokens=0)
        was = Plan.model_validate(row["plan"])
        if (plan.prompt, plan.focus, plan.feedback, plan.prefix) != (was.prompt, was.focus, was.feedback, was.prefix):
            prompt = reasoner.prompt(again.task, plan, self._history(row) if plan.feedback else ())
        with timed(timings, "reason"):
            return await reasoner.reason(prompt, plan, prefix)

    def _history(self, row: Mapping[str, Any]) -> list[Entry]:
        """Rebuild what the prompt tells of the attempts before this one."""
        where = {"run_id": row["run_id"], "stage": row["stage"], "task_id": row["task_id"], "fork": 0}
        entries = []
        for attempt in sorted(self.ledger.read(AttemptRecord, **where), key=lambda record: record.attempt):
            if attempt.attempt < row["attempt"]:
                proposed = tuple(
                    (Candidate(grid=grid, source="trm", votes=0, num_views=0),) if grid else ()
                    for grid in attempt.grids
                )
                entries.append(
                    Entry(
                        attempt=attempt.attempt,
                        only=attempt.plan["focus"] if attempt.text is not None and attempt.latent is None else None,
                        text=attempt.text or "",
                        candidates=proposed,
                        weights=(),
                        score=attempt.score or 0.0,
                        accepted=attempt.verdict == "accepted",
                        feedback=attempt.feedback,
                    )
                )
        return entries

    def _recorded_as(
        self, again: _Again, outcome: _Outcome, report: ReplayReport
    ) -> tuple[ReplayReport, list[Record]]:
        """Return the report, with the id of its fork where the plan is changed, and what the ledger keeps."""
        row, services = again.recorded.attempt, again.services
        first = next((node.name for node in report.nodes if not node.equal), None)
        records: list[Record] = []
        if report.changes:
            forks = self.ledger.rows(
                "SELECT max(fork) AS last FROM attempts WHERE run_id = ? AND stage = ? AND task_id = ? AND attempt = ?",
                [row["run_id"], row["stage"], row["task_id"], row["attempt"]],
            )
            scope = AttemptScope(
                row["run_id"], row["stage"], row["task_id"], row["stage_key"], row["checkpoint_key"],
                fork=forks[0]["last"] + 1, parent=row["attempt_id"], accept=row["geometry"].get("accept"),
            )
            records += attempt_records(
                scope,
                plan=outcome.plan,
                reasoning=outcome.reasoning,
                adapted=outcome.adapted,
                proposal=outcome.proposal,
                verdict=outcome.verdict,
                model=services.reasoner.model if services.reasoner else None,
                started_at=outcome.ended_at - sum(outcome.timings.values()),
                ended_at=outcome.ended_at,
                timings=outcome.timings,
            )
            report = report.forked(scope.attempt_id(outcome.plan.attempt))
        records.append(
            ReplayRecord(
                replay_id=secrets.token_hex(8),
                run_id=row["run_id"],
                stage=row["stage"],
                attempt_id=row["attempt_id"],
                live=report.live,
                equal=report.equal,
                first_divergence=first,
                nodes={node.name: node.detail for node in report.nodes},
                replayed_at=time.time(),
            )
        )
        return report, records

    def _stage(self, run_id: str, name: str) -> tuple[SolveStage, StageNode, RunRecord]:
        if (run_id, name) not in self._stages:
            runs = self.ledger.read(RunRecord, run_id=run_id)
            if not runs or runs[0].graph is None:
                raise ReplayError(f"run {run_id} has no graph in the ledger", "collect the journals of the run")
            node = RunGraph.model_validate_json(runs[0].graph).node(name)
            self._stages[run_id, name] = SolveStage.model_validate_json(json.dumps(node.spec)), node, runs[0]
        return self._stages[run_id, name]

    def _load(
        self, row: Mapping[str, Any], stage: SolveStage, node: StageNode, run: RunRecord, device: str, live: bool
    ) -> Services:
        key = (row["checkpoint_key"], live, device)
        if key not in self._services and stage.with_ in node.models:
            self._services[key] = (
                load_writer(node.models[stage.with_], stage.solver, device, _base(run), self._progress)
                if live
                else Services(TextProposer(device))
            )
        if key not in self._services:
            store = ArtifactStore(self.workspace)
            artifact = store.find(row["checkpoint_key"])
            if artifact is None:
                key_named, id_named = row["checkpoint_key"], row["attempt_id"]
                raise ReplayError(
                    f"checkpoint {key_named} of attempt {id_named} is not in {self.workspace.root}",
                    f"gridloom run {run.spec or run.name or 'SPEC'} makes it again",
                )
            store.verify(artifact)
            base = _base(run) if live else Path()
            self._services[key] = load_services(
                artifact.path, stage.solver, device, base, self._progress, with_llm=live
            )
        return self._services[key]


def _base(run: RunRecord) -> Path:
    """Return the folder that relative paths of a run's spec start from."""
    from gridloom.runtime.project import spec_base  # brings the compiler, which replays from the record do without

    return spec_base(run.spec or "")


def _placing(services: Services) -> Callable[[Mapping[str, Any]], Proposer]:
    """Return what gives the proposer for a recorded place in a batch."""
    proposer = services.proposer
    if not isinstance(proposer, TrmProposer):
        return lambda _geometry: proposer
    desk = placed_desk(proposer.bundle.trm, services.hub)
    return lambda geometry: proposer.through(PlacedRunner(desk, geometry["batch_rows"], geometry["first_row"]))


@dataclass(frozen=True, slots=True, eq=False)
class _Again:
    """An attempt to execute again, and with what."""

    recorded: Recorded
    stage: SolveStage
    services: Services
    proposer: Proposer
    """At the attempt's recorded place in its batch."""
    task: Task
    plan: Plan
    changes: Mapping[str, tuple[Any, Any]]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a re-execution gave."""

    plan: Plan
    reasoning: Reasoning | None
    adapted: dict[str, Any] | None
    proposal: Proposal
    verdict: Verdict
    timings: dict[str, float]
    ended_at: float


def _settings(again: _Again) -> Solver:
    """Return the settings that the attempt was judged by."""
    settings = again.stage.solver
    accept = again.recorded.attempt["geometry"].get("accept")
    return settings if accept is None else accepting_from(settings, accept)


def _report(again: _Again, outcome: _Outcome, device: str, live: bool, notes: Sequence[str]) -> ReplayReport:
    row = again.recorded.attempt
    return ReplayReport(
        attempt_id=row["attempt_id"],
        run_id=row["run_id"],
        stage=row["stage"],
        checkpoint_key=row["checkpoint_key"],
        nodes=tuple(_compare(again.recorded, outcome, live)),
        grids_equal=outcome.proposal.grids() == row["grids"],
        verdict_equal=verdict_digest(outcome.verdict) == row["geometry"]["digests"]["verify"],
        score=outcome.verdict.score,
        verdict="accepted" if outcome.verdict.accepted else "rejected",
        grids=outcome.proposal.grids(),
        device=device,
        live=live,
        changes=again.changes,
        notes=tuple(notes),
        seconds=sum(outcome.timings.values()),
    )


def _compare(recorded: Recorded, outcome: _Outcome, live: bool) -> list[NodeReport]:
    nodes = []
    if outcome.reasoning is not None and live:
        nodes.append(compare_reasoning(recorded, outcome.reasoning))
    if outcome.adapted is not None:
        nodes.append(compare_adapt(recorded, outcome.adapted))
    nodes.append(compare_proposal(recorded, outcome.proposal))
    nodes.append(compare_verdict(recorded, outcome.verdict))
    return nodes
