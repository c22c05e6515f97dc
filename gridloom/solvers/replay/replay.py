"""Replay: re-execute recorded attempts from their records and compare bit for bit; or fork one with a changed plan."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import ReplayError
from gridloom.progress import Progress
from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.nodes import with_text_grid
from gridloom.solvers.loop.recording import AttemptScope, Outcome, attempt_of
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.parts.proposer import TrmProposer
from gridloom.solvers.parts.runners import PlacedRunner, placed_queue
from gridloom.solvers.parts.services import Proposer, Services
from gridloom.solvers.parts.text_proposer import TextProposer
from gridloom.solvers.replay.frames import group
from gridloom.solvers.replay.outcome import Again, executed, make_report, settings_of
from gridloom.solvers.replay.overrides import override_plan
from gridloom.solvers.replay.record import (
    check_from_node,
    place,
    recorded_history,
    recorded_proposal,
    recorded_reasoning,
    recorded_task,
    recorded_threads,
    shortened,
    timed,
)
from gridloom.solvers.replay.report import Recorded, ReplayReport
from gridloom.solvers.types import Plan, Reasoning
from gridloom.solvers.verifiers.judge import Judge
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.attempt import KEY
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, Record, ReplayRecord, RunRecord, TaskRecord
from gridloom.stores.workspace import Workspace


def replay(
    workspace: Workspace,
    attempt_id: str,
    *,
    run_id: str | None = None,
    live: bool = False,
    overrides: Sequence[str] = (),
    from_node: str | None = None,
    progress: Progress | None = None,
) -> ReplayReport:
    """Re-execute one attempt from its record.

    Args:
        run_id: the run it belongs to; the latest that has it when None.
        live: run the LLaMA too, in place of the recorded text and latent.
        overrides: `KEY=VALUE` changes of the plan; the outcome is recorded as a fork of the attempt.
        from_node: take what the nodes before this one gave from the record, and execute it and those after it:
            `reason` is what `live` does, `adapt` what is done without, `verify` judges the recorded proposal.

    Raises:
        ReplayError: unknown attempt or node, or what the record or checkpoint must hold is not at hand.
    """
    replayer = Replayer(workspace, progress)
    return replayer.one(attempt_id, run_id=run_id, live=live, overrides=overrides, from_node=from_node)


def replay_failed(
    workspace: Workspace,
    *,
    run_id: str | None = None,
    live: bool = False,
    overrides: Sequence[str] = (),
    from_node: str | None = None,
    progress: Progress | None = None,
) -> Iterator[ReplayReport]:
    """Re-execute every failed attempt of a run (the latest with a solve stage), models loaded once.

    Failed: wrong by the score; where there is none, not accepted. With `overrides` each is forked.
    """
    ledger = Ledger(workspace)
    run_id = run_id or ledger.latest_run()
    if run_id is None:
        raise ReplayError("no run with a solve stage is recorded", "gridloom run quickstart makes one")
    failed = [row for row in ledger.attempts(run_id, failed=True) if row["fork"] == 0]
    replayer = Replayer(workspace, progress)
    records = {record.attempt.key: record for record in replayer.recorded(run_id)}
    with progress.task("replay", len(failed), unit="attempts") if progress else nullcontext() as bar:
        for frame in group(
            [records[tuple(row[name] for name in KEY)] for row in failed], live or from_node == "reason"
        ):
            yield from replayer.together(frame, live=live, overrides=overrides, from_node=from_node)
            if bar is not None:
                bar.advance(len(frame))


class Replayer:
    """Re-executes attempts; keeps the models it has loaded."""

    def __init__(self, workspace: Workspace, progress: Progress | None = None) -> None:
        self.workspace = workspace
        self.ledger = Ledger(workspace)
        self._progress = progress
        self._services: dict[tuple[str, str, bool, str], Services] = {}
        self._stages: dict[tuple[str, str], tuple[SolveStage, StageNode, RunRecord]] = {}

    def one(
        self,
        attempt_id: str,
        *,
        run_id: str | None = None,
        live: bool = False,
        overrides: Sequence[str] = (),
        from_node: str | None = None,
    ) -> ReplayReport:
        """Replay the attempt of that id. Raises ReplayError."""
        attempt = self.ledger.whole_attempt(attempt_id, run_id)
        row = attempt.row
        tasks = self.ledger.read(TaskRecord, run_id=row.run_id, stage=row.stage, task_id=row.task_id)
        if not tasks:
            said = f"the task of attempt {attempt_id} is not in the ledger"
            raise ReplayError(said, "collect the journals of its run")
        return self.together([Recorded(attempt, tasks[0])], live=live, overrides=overrides, from_node=from_node)[0]

    def recorded(self, run_id: str) -> list[Recorded]:
        """Return every attempt of a run, read in bulk."""
        tasks = {(task.stage, task.task_id): task for task in self.ledger.read(TaskRecord, run_id=run_id)}
        attempts = self.ledger.whole_attempts(run_id)
        return [Recorded(attempt, tasks[attempt.row.stage, attempt.row.task_id]) for attempt in attempts]

    def together(
        self,
        frame: Sequence[Recorded],
        *,
        live: bool = False,
        overrides: Sequence[str] = (),
        from_node: str | None = None,
    ) -> list[ReplayReport]:
        """Re-execute attempts of one frame: of one stage, checkpoint, device and number of threads, at free places.

        Compares them, and records the replays (and the forks, where the plan is changed).
        """
        first = frame[0].row
        live = check_from_node(from_node, first, live, overrides)
        stage, node, run = self._stage(first.run_id, first.stage)
        if from_node == "verify":
            return self._written([self._judged(recorded, stage) for recorded in frame])
        device, notes = place(first.geometry)
        services = self._load(first, stage, node, run, device, live)
        placed = _placing(services)
        again = [
            Again(
                recorded,
                stage,
                services,
                placed(recorded.row.geometry),
                *self._changed(recorded, services, live, overrides),
            )
            for recorded in frame
        ]

        async def execute() -> list[Outcome]:
            return await asyncio.gather(*(self._execute(attempt, live) for attempt in again))

        with recorded_threads(first.geometry, notes):
            outcomes = asyncio.run(execute())
        reports, records = [], []
        for attempt, outcome in zip(again, outcomes, strict=True):
            report = make_report(attempt, outcome, device, live, notes).since(from_node)
            report, kept = self._recorded_as(attempt, outcome, report)
            reports.append(report)
            records += kept
        with LedgerWriter(self.workspace, first.run_id) as writer:
            writer.append(*records)
        return reports

    def _judged(self, recorded: Recorded, stage: SolveStage) -> ReplayReport:
        """Judge the proposal that the attempt's checkpoint holds; no model is loaded."""
        row, task = recorded.row, recorded_task(recorded.task)
        plan = Plan.model_validate(row.plan)
        proposal, timings = recorded_proposal(self.workspace, self.ledger, row), dict[str, float]()
        again = Again(recorded, stage, Services(TextProposer()), TextProposer(), task, plan, {})
        with timed(timings, "verify"):
            verdict = Judge(task, settings_of(again).verifier).verdict(proposal)
        outcome = executed(plan, None, None, proposal, verdict, timings)
        return make_report(again, outcome, "cpu", False, ()).since("verify")

    def _written(self, reports: list[ReplayReport]) -> list[ReplayReport]:
        with LedgerWriter(self.workspace, reports[0].run_id) as writer:
            writer.append(*map(_replay_record, reports))
        return reports

    def _changed(
        self, recorded: Recorded, services: Services, live: bool, overrides: Sequence[str]
    ) -> tuple[Task, Plan, Mapping[str, tuple[Any, Any]]]:
        task = recorded_task(recorded.task)
        known = tuple(services.proposer.views(task))
        plan = Plan.model_validate(recorded.row.plan)
        has_text = recorded.row.prompt is not None
        return task, *override_plan(plan, overrides, known, has_text=has_text, live=live)

    async def _execute(self, again: Again, live: bool) -> Outcome:
        row, plan, services = again.recorded.row, again.plan, again.services
        timings: dict[str, float] = {}
        with services.scheduler.member():
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
                verdict = Judge(again.task, settings_of(again).verifier).verdict(proposal)
        return executed(plan, reasoning, adapted, proposal, verdict, timings)

    async def _reason(self, again: Again, timings: dict[str, float]) -> Reasoning:
        row, plan, reasoner = again.recorded.row, again.plan, again.services.reasoner
        assert reasoner is not None, "live replays load the LLaMA"
        prefix = row.prefix if plan.prefix else None
        prompt = BuiltPrompt(text=row.prompt or "", num_tokens=0, **shortened(again.recorded.attempt))
        was = Plan.model_validate(row.plan)
        if (plan.prompt, plan.focus, plan.feedback, plan.prefix) != (was.prompt, was.focus, was.feedback, was.prefix):
            prompt = reasoner.prompt(again.task, plan, recorded_history(self.ledger, row) if plan.feedback else ())
        with timed(timings, "reason"):
            return await reasoner.reason(prompt, plan, prefix)

    def _recorded_as(self, again: Again, outcome: Outcome, report: ReplayReport) -> tuple[ReplayReport, list[Record]]:
        """Return the report, with the id of its fork where the plan is changed, and what the ledger keeps."""
        row, services = again.recorded.row, again.services
        records: list[Record] = []
        if report.changes:
            forks = self.ledger.rows(
                "SELECT max(fork) AS last FROM attempts WHERE run_id = ? AND stage = ? AND task_id = ? AND attempt = ?",
                [row.run_id, row.stage, row.task_id, row.attempt],
            )
            scope = AttemptScope.of_fork(row, forks[0]["last"] + 1)
            records += attempt_of(scope, outcome, services.reasoner.model if services.reasoner else None).records()
            report = report.forked(scope.attempt_id(outcome.plan.attempt))
        records.append(_replay_record(report))
        return report, records

    def _stage(self, run_id: str, name: str) -> tuple[SolveStage, StageNode, RunRecord]:
        if (run_id, name) not in self._stages:
            runs = self.ledger.read(RunRecord, run_id=run_id)
            if not runs or runs[0].graph is None:
                raise ReplayError(f"run {run_id} has no graph in the ledger", "collect the journals of the run")
            node = RunGraph.model_validate_json(runs[0].graph).node(name)
            self._stages[run_id, name] = node.section(SolveStage), node, runs[0]
        return self._stages[run_id, name]

    def _load(
        self, row: AttemptRecord, stage: SolveStage, node: StageNode, run: RunRecord, device: str, live: bool
    ) -> Services:
        key = (row.checkpoint_key, stage.solver.proposer, live, device)
        base = _base(run) if live else Path()
        if key not in self._services and stage.with_ in node.models:
            self._services[key] = load_llm_services(
                node.models[stage.with_], stage.solver, device, base, self._progress, with_llm=live
            )
        if key not in self._services:
            store = ArtifactStore(self.workspace)
            artifact = store.find(row.checkpoint_key)
            if artifact is None:
                key_named, id_named = row.checkpoint_key, row.attempt_id
                raise ReplayError(
                    f"checkpoint {key_named} of attempt {id_named} is not in {self.workspace.root}",
                    f"gridloom run {run.spec or run.name or 'SPEC'} makes it again",
                )
            store.verify(artifact)
            self._services[key] = load_services(
                artifact.path, stage.solver, device, base, self._progress, with_llm=live
            )
        return self._services[key]


def _replay_record(report: ReplayReport) -> ReplayRecord:
    return ReplayRecord(
        replay_id=secrets.token_hex(8),
        run_id=report.run_id,
        stage=report.stage,
        attempt_id=report.attempt_id,
        live=report.live,
        equal=report.equal,
        first_divergence=report.first_divergence,
        nodes={node.name: node.detail for node in report.nodes},
        replayed_at=time.time(),
    )


def _base(run: RunRecord) -> Path:
    """Return the folder that relative paths of a run's spec start from."""
    from gridloom.runtime.planning.local import (
        spec_base,  # brings the compiler, which replays from the record do without
    )

    return spec_base(run.spec or "")


def _placing(services: Services) -> Callable[[Mapping[str, Any]], Proposer]:
    """Return what gives the proposer for a recorded place in a batch."""
    proposer = services.proposer
    if not isinstance(proposer, TrmProposer):
        return lambda _geometry: proposer
    queue = placed_queue(proposer.bundle.network, services.scheduler)
    return lambda geometry: proposer.through(PlacedRunner(queue, geometry["batch_rows"], geometry["first_row"]))
