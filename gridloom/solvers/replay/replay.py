"""Replay: re-execution of recorded attempts with a bit-for-bit comparison, or a fork with a changed plan."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import ReplayError
from gridloom.progress import Progress
from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.confirm import ask_again, with_answers
from gridloom.solvers.loop.recording import AttemptScope, Outcome, attempt_of
from gridloom.solvers.loop.text_grids import is_cut, with_text_grid
from gridloom.solvers.parts.loading import load_llm_services, load_search, load_services
from gridloom.solvers.parts.proposer import TrmProposer
from gridloom.solvers.parts.runners import PlacedRunner, placed_queue
from gridloom.solvers.parts.search_proposer import WithSearch
from gridloom.solvers.parts.services import Proposer, Services
from gridloom.solvers.parts.text_proposer import TextProposer
from gridloom.solvers.replay.frames import group
from gridloom.solvers.replay.outcome import ReplayJob, make_outcome, make_report, settings_of
from gridloom.solvers.replay.overrides import changeable, has_searched, override_plan
from gridloom.solvers.replay.record import (
    check_from_node,
    dropped_from_prompt,
    recorded_asks,
    recorded_history,
    recorded_proposal,
    recorded_reasoning,
    recorded_task,
    recorded_threads,
    recorded_tokens,
    replay_device,
    timed,
)
from gridloom.solvers.replay.report import Recorded, ReplayReport
from gridloom.solvers.types import Plan, Proposal, Reasoning
from gridloom.solvers.verifiers.judge import Judge
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.attempt import KEY
from gridloom.stores.files.disk import storage
from gridloom.stores.files.locks import hold_folder
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import AttemptRecord, Record, ReplayRecord, RunRecord, TaskRecord
from gridloom.stores.runs.names import find_run, refuse_unknown
from gridloom.stores.workspace import Workspace


def replay(
    workspace: Workspace,
    attempt_id: str,
    *,
    run_id: str | None = None,
    stage: str | None = None,
    live: bool = False,
    overrides: Sequence[str] = (),
    from_node: str | None = None,
    progress: Progress | None = None,
) -> ReplayReport:
    """Re-execute one attempt from its record.

    Args:
        attempt_id: name of the attempt, or its id where one attempt alone has it (`stores.runs.names.find_attempt`).
        run_id: run of the attempt; any when None.
        stage: solve stage of the attempt; any when None.
        live: run the LLaMA too, in place of the recorded text and latent.
        overrides: `KEY=VALUE` changes of the plan; the outcome is recorded as a fork of the attempt.
        from_node: first node to execute; results of earlier nodes are taken from the record. `reason` equals `live`,
            `adapt` the default; `verify` judges the recorded proposal.

    Raises:
        ReplayError: unknown or ambiguous attempt, unknown node, or the record or the checkpoint is missing or
            incomplete.
    """
    replayer = Replayer(workspace, progress)
    return replayer.replay_attempt(
        attempt_id, run_id=run_id, stage=stage, live=live, overrides=overrides, from_node=from_node
    )


def replay_failed(
    workspace: Workspace,
    *,
    run_id: str | None = None,
    stage: str | None = None,
    live: bool = False,
    overrides: Sequence[str] = (),
    from_node: str | None = None,
    progress: Progress | None = None,
) -> Iterator[ReplayReport]:
    """Yield a report per failed attempt of a run (by default the latest with a solve stage); models are loaded once.

    With `stage` only the attempts of that solve stage are replayed. An attempt failed if its score is wrong, or,
    without a score, if it was not accepted. With `overrides` each is forked, those that searched programs left out.
    """
    ledger = Ledger(workspace)
    run_id = ledger.latest_run() if run_id is None else find_run(run_id, ledger)
    if run_id is None:
        raise ReplayError("no run with a solve stage is recorded", "gridloom run quickstart makes one")
    refuse_unknown(ledger, run_id, stage, None)
    failed = [row for row in ledger.attempts(run_id, stage=stage, failed=True) if row["fork"] == 0]
    replayer = Replayer(workspace, progress)
    records = {record.attempt.key: record for record in replayer.recorded(run_id)}
    found = [records[tuple(row[name] for name in KEY)] for row in failed]
    chosen = changeable(found) if overrides else found
    with progress.task("replay", len(chosen), unit="attempts") if progress else nullcontext() as bar:
        for frame in group(chosen, live or from_node == "reason"):
            yield from replayer.replay_frame(frame, live=live, overrides=overrides, from_node=from_node)
            if bar is not None:
                bar.advance(len(frame))


class Replayer:
    """Replayer of a workspace's attempts, which caches loaded models."""

    def __init__(self, workspace: Workspace, progress: Progress | None = None, ledger: Ledger | None = None) -> None:
        """Args: ledger: reader of the workspace's ledger with settings of its own."""
        self.workspace = workspace
        self.ledger = ledger or Ledger(workspace)
        self._progress = progress
        self._services: dict[tuple[str, str, bool, str], Services] = {}
        self._stages: dict[tuple[str, str], tuple[SolveStage, StageNode, RunRecord]] = {}

    @property
    def num_loaded(self) -> int:
        """Number of checkpoints in memory."""
        return len(self._services)

    def replay_attempt(
        self,
        attempt_id: str,
        *,
        run_id: str | None = None,
        stage: str | None = None,
        live: bool = False,
        overrides: Sequence[str] = (),
        from_node: str | None = None,
    ) -> ReplayReport:
        """Replay the attempt of that name. Raises ReplayError."""
        recorded = self.recorded_attempt(attempt_id, run_id, stage)
        return self.replay_frame([recorded], live=live, overrides=overrides, from_node=from_node)[0]

    def recorded_attempt(self, attempt_id: str, run_id: str | None = None, stage: str | None = None) -> Recorded:
        """Return the attempt of that name with its task. Raises ReplayError."""
        attempt = self.ledger.whole_attempt(attempt_id, run_id, stage)
        row = attempt.row
        tasks = self.ledger.read(TaskRecord, run_id=row.run_id, stage=row.stage, task_id=row.task_id)
        if not tasks:
            problem = f"the task of attempt {attempt_id} is not in the ledger"
            raise ReplayError(problem, "collect the journals of its run")
        return Recorded(attempt, tasks[0])

    def recorded(self, run_id: str) -> list[Recorded]:
        """Return all attempts of a run with their tasks."""
        tasks = {(task.stage, task.task_id): task for task in self.ledger.read(TaskRecord, run_id=run_id)}
        attempts = self.ledger.whole_attempts(run_id)
        return [Recorded(attempt, tasks[attempt.row.stage, attempt.row.task_id]) for attempt in attempts]

    def replay_frame(
        self,
        frame: Sequence[Recorded],
        *,
        live: bool = False,
        overrides: Sequence[str] = (),
        from_node: str | None = None,
    ) -> list[ReplayReport]:
        """Re-execute the attempts of one frame in shared batches, and record the replays.

        The attempts of a frame have the same stage, checkpoint, device and number of threads, and disjoint rows. With
        `overrides` their forks are recorded too.

        Raises:
            ReplayError: the attempts cannot be replayed from `from_node`, or models are missing.
        """
        first = frame[0].row
        live = check_from_node(from_node, first, live, overrides)
        stage, node, run = self.stage_of(first.run_id, first.stage)
        if from_node == "verify":
            return self._written([self._judged(recorded, stage) for recorded in frame])
        device, notes = replay_device(first.geometry)
        services = self.load(first, stage, node, run, device, live)
        proposer_at = _proposer_at(services)
        jobs = [
            ReplayJob(
                recorded,
                stage,
                services,
                proposer_at(recorded.row.geometry),
                *self._changed(recorded, services, live, overrides),
            )
            for recorded in frame
        ]

        async def execute() -> list[Outcome]:
            return await asyncio.gather(*(self._execute(job, live) for job in jobs))

        with recorded_threads(first.geometry, notes):
            outcomes = asyncio.run(execute())
        reports, records = [], []
        with self._numbering(), LedgerWriter(self.workspace, first.run_id) as writer:
            for job, outcome in zip(jobs, outcomes, strict=True):
                report = make_report(job, outcome, device, live, notes).from_node(from_node)
                report, new_records = self._records(job, outcome, report)
                reports.append(report)
                records += new_records
            writer.append(*records)
        return reports

    @contextmanager
    def _numbering(self) -> Iterator[None]:
        """Keep other replays from choosing the number of a fork until it is written.

        Of two forks with one number the ledger would keep one. Where the file system has no locks nothing is held.
        """
        folder = self.workspace.ensure(self.workspace.journal_dir)
        with storage("number a fork", folder):
            held = hold_folder(folder, timeout_s=None)
        try:
            yield
        finally:
            if held is not None:
                os.close(held)

    def _judged(self, recorded: Recorded, stage: SolveStage) -> ReplayReport:
        """Return the report of judging the proposal in the attempt's checkpoint; no model is loaded."""
        row, task = recorded.row, recorded_task(recorded.task)
        plan = Plan.model_validate(row.plan)
        proposal, timings = recorded_proposal(self.workspace, self.ledger, row), dict[str, float]()
        job = ReplayJob(recorded, stage, Services(TextProposer()), TextProposer(), task, plan, {})
        with timed(timings, "verify"):
            verdict = Judge(task, settings_of(job).verifier).verdict(proposal)
        outcome = make_outcome(plan, None, None, proposal, verdict, timings)
        return make_report(job, outcome, "cpu", False, ()).from_node("verify")

    def _written(self, reports: list[ReplayReport]) -> list[ReplayReport]:
        with LedgerWriter(self.workspace, reports[0].run_id) as writer:
            writer.append(*map(_replay_record, reports))
        return reports

    def _changed(
        self, recorded: Recorded, services: Services, live: bool, overrides: Sequence[str]
    ) -> tuple[Task, Plan, Mapping[str, tuple[Any, Any]]]:
        task = recorded_task(recorded.task)
        views = tuple(services.proposer.views(task))
        plan = Plan.model_validate(recorded.row.plan)
        has_text, searched = recorded.row.prompt is not None, has_searched(recorded)
        return task, *override_plan(plan, overrides, views, has_text=has_text, live=live, searched=searched)

    async def _execute(self, job: ReplayJob, live: bool) -> Outcome:
        row, plan, services = job.recorded.row, job.plan, job.services
        timings: dict[str, float] = {}
        with services.scheduler.member():
            reasoning = recorded_reasoning(row)
            if live and reasoning is not None:
                reasoning = await self._reason(job, timings)
            adapted = None
            if reasoning is not None and reasoning.latent is not None:
                with timed(timings, "adapt"):
                    adapted = job.proposer.adapt(reasoning.latent)
            proposal = await job.proposer.propose(job.task, plan, reasoning.latent if reasoning else None)
            timings["propose"] = proposal.seconds
            if reasoning is not None:
                proposal = await self._with_text(job, proposal, reasoning, live)
            with timed(timings, "verify"):
                verdict = Judge(job.task, settings_of(job).verifier).verdict(proposal)
        return make_outcome(plan, reasoning, adapted, proposal, verdict, timings)

    async def _with_text(self, job: ReplayJob, proposal: Proposal, reasoning: Reasoning, live: bool) -> Proposal:
        """Return the proposal with the text's grid, read by the parser of the record, and with its confirmation."""
        recorded, task, plan, confirm = job.recorded, job.task, job.plan, job.stage.solver.confirm
        reading = recorded.row.reading
        parser = int(reading["parser"]) if reading else 1
        cut = is_cut(reasoning) if live or not reading else bool(reading["cut"])
        proposal = with_text_grid(proposal, task, plan, reasoning, cut=cut, parser=parser)
        if reading and not live and not reasoning.text.strip():
            proposal = proposal.model_copy(update={"reading": reading})  # its note has the counts of the call
        if confirm is None or proposal.only is None:
            return proposal
        if live:
            assert job.services.reasoner is not None, "live replays load the LLaMA"
            left = self._tokens_left(job, reasoning)
            return await ask_again(job.services.reasoner, proposal, task, plan, confirm, tokens=left)
        return with_answers(proposal, task, plan, confirm, recorded_asks(recorded.row))

    def _tokens_left(self, job: ReplayJob, reasoning: Reasoning) -> int | None:
        """Return what the task's budget of tokens leaves for questions; None without a budget."""
        budget, row = job.stage.solver.budget.tokens, job.recorded.row
        if budget is None:
            return None
        return budget - recorded_tokens(self.ledger, row) - reasoning.prompt_tokens - reasoning.new_tokens

    async def _reason(self, job: ReplayJob, timings: dict[str, float]) -> Reasoning:
        row, plan, reasoner = job.recorded.row, job.plan, job.services.reasoner
        assert reasoner is not None, "live replays load the LLaMA"
        prefix = row.prefix if plan.prefix else None
        prompt = BuiltPrompt(text=row.prompt or "", num_tokens=0, **dropped_from_prompt(job.recorded.attempt))
        was = Plan.model_validate(row.plan)
        if (plan.prompt, plan.focus, plan.feedback, plan.prefix) != (was.prompt, was.focus, was.feedback, was.prefix):
            prompt = reasoner.prompt(job.task, plan, recorded_history(self.ledger, row) if plan.feedback else ())
        with timed(timings, "reason"):
            return await reasoner.reason(prompt, plan, prefix)

    def _records(self, job: ReplayJob, outcome: Outcome, report: ReplayReport) -> tuple[ReplayReport, list[Record]]:
        """Return the report, with the fork's id where the plan is changed, and the records for the ledger."""
        row, services = job.recorded.row, job.services
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

    def stage_of(self, run_id: str, name: str) -> tuple[SolveStage, StageNode, RunRecord]:
        """Return a solve stage of a run: its spec, its node and the run's record. Raises ReplayError."""
        if (run_id, name) not in self._stages:
            runs = self.ledger.read(RunRecord, run_id=run_id)
            if not runs or runs[0].graph is None:
                raise ReplayError(f"run {run_id} has no graph in the ledger", "collect the journals of the run")
            node = RunGraph.model_validate_json(runs[0].graph).node(name)
            self._stages[run_id, name] = node.section(SolveStage), node, runs[0]
        return self._stages[run_id, name]

    def load(
        self, row: AttemptRecord, stage: SolveStage, node: StageNode, run: RunRecord, device: str, live: bool
    ) -> Services:
        """Return the models of an attempt, from the cache where they were loaded. Raises ReplayError, ModelError."""
        key = (row.checkpoint_key, stage.solver.proposer, live, device)
        base = _base(run) if live else Path()
        if key not in self._services and stage.with_ is None:
            self._services[key] = load_search(stage.solver, self._progress)
        if key not in self._services and stage.with_ is not None and stage.with_ in node.models:
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
    from gridloom.runtime.planning.local import spec_base

    return spec_base(run.spec or "")


def _proposer_at(services: Services) -> Callable[[Mapping[str, Any]], Proposer]:
    """Return a function from a recorded geometry to the proposer that runs rows at that place of a batch."""
    whole = services.proposer
    network = whole.inner if isinstance(whole, WithSearch) else whole
    if not isinstance(network, TrmProposer):
        return lambda _geometry: whole
    queue = placed_queue(network.bundle.network, services.scheduler)

    def placed(geometry: Mapping[str, Any]) -> Proposer:
        if "batch_rows" not in geometry:  # a search
            return whole
        there = network.through(PlacedRunner(queue, geometry["batch_rows"], geometry["first_row"]))
        return whole.over(there) if isinstance(whole, WithSearch) else there

    return placed
