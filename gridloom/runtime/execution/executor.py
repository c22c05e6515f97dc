"""Executor of a plan: runs its stages in order, skips cached stages, publishes and records the others.

A failed stage blocks only the stages that depend on it: the others run, and the run fails at its end. A signal, the
walltime, a full disk and a damaged store stop the whole run at once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.fingerprint import key_inputs
from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted, StoreError
from gridloom.progress import Progress, StopSignal
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.where import Where
from gridloom.runtime.execution.crew_of_run import crew_of_run
from gridloom.runtime.execution.make_artifact import make_artifact, verified
from gridloom.runtime.execution.parallel_walk import walk_in_parallel
from gridloom.runtime.execution.process_log import ProcessLog
from gridloom.runtime.execution.run_locks import choose_run_id, run_lock, stage_lock
from gridloom.runtime.execution.run_outcome import (
    STOPPED_AT_ONCE,
    RunFailed,
    RunResult,
    failure_text,
    naming_line,
    stops_everything,
)
from gridloom.runtime.execution.run_records import completion, estimates, incomplete, stage_record
from gridloom.runtime.execution.whole_stage import run_whole, runs_whole
from gridloom.runtime.machine.device import make_current, resolve_device
from gridloom.runtime.planning.local import Planned, spec_base
from gridloom.runtime.planning.plan import PlannedStage, RunPlan
from gridloom.runtime.planning.weights_here import check_weights
from gridloom.runtime.stage import Stage, StageContext, load_stage
from gridloom.runtime.trackers.wandb_run import check_wandb
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import RunRecord
from gridloom.stores.workspace import Workspace
from gridloom.version import __version__

if TYPE_CHECKING:
    from gridloom.runtime.machine.ranks import Ranks


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of an execution; none changes a result."""

    base: Path
    """Base folder of relative paths in the spec."""
    spec: str
    """Spec argument as the user typed it, for the ledger and for messages."""
    overrides: tuple[str, ...] = ()
    speeds: DeviceSpeeds | None = None
    """Measured speeds of the device, for the estimated times in the ledger."""
    device: str | None = None
    """Override of the spec's `device`."""
    ranks: Ranks | None = None
    """Group of processes that train together, in which this process is rank 0; None for a single process."""
    where: Where | None = None
    """Place of the workers that share the stages; None for this process alone."""
    wait: bool = False
    """Whether a stage that another process runs is waited for; else it fails."""


def execute(
    plan: RunPlan,
    workspace: Workspace,
    options: RunOptions,
    progress: Progress,
    stop: StopSignal,
    stage_factory: Callable[[str], Stage] = load_stage,
) -> RunResult:
    """Run every stage that the plan marks to run, in order.

    An interrupted, crashed or failed run of the same graph is resumed under its run id. A cached artifact whose process
    was killed before it recorded it completes the record of that run.

    Raises:
        StageInterrupted: `stop` was set; the stage saved its state and the run is marked interrupted.
        ModelError: the language model of a stage is not on this machine; nothing was run.
        GridloomError: a stage is followed at Weights & Biases, which is not possible here; nothing was run.
        RunFailed: stages failed; the stages that do not depend on them were executed, and the run is marked failed.
        StoreError: the disk is full, or the ledger or the artifact store cannot be used; the run stopped at once.
    """
    started = time.monotonic()
    to_run = [planned.node for planned in plan.stages if planned.state == "run"]
    device = resolve_device(options.device or plan.graph.device) if to_run else (options.device or plan.graph.device)
    if to_run:
        make_current(device)
    check_weights(to_run, plan.graph)
    check_wandb(to_run)
    run_id = choose_run_id(plan, workspace)
    store = ArtifactStore(workspace)
    with run_lock(workspace, run_id), LedgerWriter(workspace, run_id) as ledger:
        unrecorded = incomplete(Ledger(workspace), _cached(plan, store))
        ledger.append(
            RunRecord(
                run_id=run_id,
                name=plan.graph.name,
                graph_key=plan.graph.key,
                status="started",
                spec=options.spec,
                overrides=list(options.overrides),
                graph=plan.graph.to_json(),
                device=device,
                host=socket.gethostname(),
                pid=os.getpid(),
                gridloom_version=__version__,
                started_at=time.time(),
            )
        )
        ledger.append(*estimates(run_id, to_run, options.speeds))
        log = ProcessLog(ledger, run_id, device)
        walk = _Walk(plan, run_id, device, options, store, ledger, log, progress, stop, stage_factory, unrecorded)
        status: str = "failed"
        error: str | None = None
        try:
            with log.running(), _crew(options, plan, workspace, ledger, progress, to_run) as walk.crew:
                walk.walk()
            result = walk.result(time.monotonic() - started)
            if not result.failed:
                status = "done"
            else:
                error = f"{result.counts}: {', '.join(result.failed)} failed"
        except StageInterrupted as interrupted:
            status, error = "interrupted", interrupted.message
            raise
        except KeyboardInterrupt:
            status, error = "interrupted", STOPPED_AT_ONCE
            raise
        except BaseException as failure:
            error = str(failure)
            raise
        finally:
            ended = RunRecord(run_id=run_id, status=status, error=error, ended_at=time.time())
            ledger.append(ended, log.end(status, error))
            ledger.sync()
    if later := Ledger(workspace).ingest_if_free():
        progress.say(later)
    if result.failed:
        raise RunFailed(result, plan.graph)
    return result


def _cached(plan: RunPlan, store: ArtifactStore) -> list[Artifact]:
    """Return the artifacts that the plan has found. Raises StoreError for one that was removed since then."""
    found = []
    for planned in plan.stages:
        if planned.state == "cached":
            artifact = store.find(planned.node.key)
            if artifact is None:
                raise StoreError(
                    f"the artifact of stage {planned.node.name!r} ({planned.node.key}) was removed while the run began",
                    "run it again: the stage is then executed anew",
                )
            found.append(artifact)
    return found


def _crew(
    options: RunOptions,
    plan: RunPlan,
    workspace: Workspace,
    ledger: LedgerWriter,
    progress: Progress,
    to_run: Sequence[StageNode],
) -> AbstractContextManager[Crew | None]:
    """Return the context of the run's workers; of none where the run has no place for them, or nothing to do."""
    if options.where is None or options.where.kind == "here" or not to_run:
        return nullcontext()
    return crew_of_run(options.where, workspace, options.device or plan.graph.device, ledger, progress.say)


def _dependents(plan: RunPlan, name: str) -> set[str]:
    found = {name}
    for planned in plan.stages:
        if planned.state == "run" and found & set(planned.node.inputs.values()):
            found.add(planned.node.name)
    return found - {name}


def _published(store: ArtifactStore, node: StageNode) -> Artifact:
    artifact = store.find(node.key)
    if artifact is None:
        raise StageError(
            f"the plan counts on a cached {node.name!r} ({node.key}), but its artifact is gone",
            "run again: the new plan will execute that stage",
        )
    return artifact


@dataclass(slots=True)
class _Walk:
    """State of one pass over the stages of a plan."""

    plan: RunPlan
    run_id: str
    device: str
    options: RunOptions
    store: ArtifactStore
    ledger: LedgerWriter
    log: ProcessLog
    progress: Progress
    stop: StopSignal
    stage_factory: Callable[[str], Stage]
    unrecorded: set[str]
    """Keys of cached artifacts that the run which made them did not record."""
    crew: Crew | None = None
    held: ExitStack = field(default_factory=ExitStack)
    """Lock of the stage that ended last, kept until that of the next is taken: who waits for the one stays behind."""
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def walk(self) -> None:
        """Run the stages in order. Raises errors that stop the whole run."""
        if self.crew is not None:
            walk_in_parallel(self.plan.stages, self._step, lambda: {*self.artifacts, *self.failed, *self.blocked})
            return
        try:
            for planned in self.plan.stages:
                self._step(planned)
        finally:
            self.held.close()

    def _step(self, planned: PlannedStage) -> None:
        node = planned.node
        if planned.state == "run":
            if roots := self._roots(node):
                self.blocked[node.name] = roots
                self._record(node, "blocked", error=f"blocked by {', '.join(roots)}")
                return
            if self.stop:
                raise StageInterrupted(
                    f"stopped by {self.stop.reason} before {node.name}", "run again: finished stages are kept"
                )
        try:
            if planned.state == "cached":
                self._use(node, _published(self.store, node))
            else:
                self._run(node)
        except Exception as failure:
            if stops_everything(failure):
                raise
            self._fail(node, failure)

    def _use(self, node: StageNode, artifact: Artifact) -> None:
        """Take an artifact that is published already."""
        if artifact.key in self.unrecorded:
            self.ledger.append(*completion(artifact))
        self._record(node, "cached")
        self.store.remove_work(node.key)  # of a process that was killed after it published
        self.artifacts[node.name] = artifact
        self.cached.append(node.name)

    def result(self, seconds: float) -> RunResult:
        """Return the outcome so far."""
        return RunResult(
            self.run_id, tuple(self.executed), tuple(self.cached), self.artifacts, seconds, self.failed, self.blocked
        )

    def _roots(self, node: StageNode) -> tuple[str, ...]:
        """Return the failed stages that a node depends on, directly or through blocked stages."""
        roots: set[str] = set()
        for name in node.inputs.values():
            roots.update([name] if name in self.failed else self.blocked.get(name, ()))
        return tuple(sorted(roots))

    def _fail(self, node: StageNode, failure: Exception) -> None:
        problem = failure_text(failure)
        self.failed[node.name] = problem
        dependents = sorted(_dependents(self.plan, node.name))
        blocks = f"; blocks {', '.join(dependents[:4])}{' ...' if len(dependents) > 4 else ''}" if dependents else ""
        self.progress.say(f"{node.name} failed: {naming_line(problem)}{blocks}")

    def _run(self, node: StageNode) -> None:
        with self._locked(node) as lock:
            if (made := self.store.find(node.key)) is not None:  # by the process that this one waited for
                self._use(node, made)
            else:
                self.artifacts[node.name] = self._make(node)
                self.executed.append(node.name)
            if self.crew is None:  # with a crew several stages run at once, and none stays behind another
                self.held = lock.pop_all()

    def _make(self, node: StageNode) -> Artifact:
        inputs = {name: self.artifacts[target] for name, target in node.inputs.items()}
        started_at = time.time()
        self._record(node, "running", started_at=started_at)
        notes: dict[str, Any] = {}
        try:
            with self.log.stage(node):
                artifact = self._publish(node, verified(self.store, inputs), notes, started_at)
        except BaseException as failure:
            status = "interrupted" if isinstance(failure, StageInterrupted | KeyboardInterrupt) else "failed"
            self._record(node, status, ended_at=time.time(), error=failure_text(failure), notes=notes)
            raise
        self.ledger.append(*completion(artifact))
        self.store.remove_work(node.key)
        return artifact

    def _locked(self, node: StageNode) -> ExitStack:
        """Take the lock of a stage, then release that of the stage before. Raises StageError, StageInterrupted."""
        taken = ExitStack()
        waiting = partial(self._await, node, set()) if self.options.wait else None
        lock = stage_lock(self.store.workspace, node, waiting, remedy="wait for it with --wait, or stop it")
        try:
            taken.enter_context(lock)
        except StageError as busy:
            self._record(node, "failed", ended_at=time.time(), error=failure_text(busy))
            raise
        self.held.close()
        return taken

    def _await(self, node: StageNode, shown: set[str], holder: str) -> None:
        """Release all locks, so that no two processes wait for each other; show each holder once; stop on a signal."""
        self.held.close()
        if self.stop:
            if self.stop.reason == "SIGINT":  # nothing to save
                raise KeyboardInterrupt
            raise StageInterrupted(
                f"stopped by {self.stop.reason} while {node.name} waited for {holder}",
                "run again: finished stages are kept",
            )
        if holder not in shown:
            shown.add(holder)
            self.progress.say(f"{node.name}: waiting for {holder}, which runs this stage")

    def _publish(
        self, node: StageNode, inputs: dict[str, Artifact], notes: dict[str, Any], started_at: float
    ) -> Artifact:
        work = self.store.work_path(node.key)
        context = StageContext(
            run_id=self.run_id,
            device=self.device,
            work=work,
            out=work,
            base=self.options.base,
            ledger=self.ledger,
            progress=self.progress,
            stop=self.stop,
            ranks=self.options.ranks,
            crew=self.crew,
            notes=notes,
        )
        of_key = key_inputs(self.plan.graph, node)
        if self.crew is not None and runs_whole(node, self.crew):
            return run_whole(node, inputs, context, of_key, started_at, self.store)
        return make_artifact(self.stage_factory(node.kind), node, inputs, context, self.store, of_key, started_at)

    def _record(self, node: StageNode, status: str, **fields: Any) -> None:
        self.ledger.append(stage_record(self.run_id, node, status, **fields))


def run_local(
    planned: Planned,
    spec: str,
    overrides: Sequence[str],
    workspace: Workspace,
    progress: Progress,
    stop: StopSignal,
    device: str | None = None,
    ranks: Ranks | None = None,
    wait: bool = False,
    where: Where | None = None,
) -> RunResult:
    """Execute a plan made by `plan_local`. Raises the errors of `execute`."""
    speeds = planned.speeds.of(device or planned.plan.graph.device)
    options = RunOptions(
        base=spec_base(spec),
        spec=spec,
        overrides=tuple(overrides),
        device=device,
        speeds=speeds,
        ranks=ranks,
        wait=wait,
        where=where,
    )
    return execute(planned.plan, workspace, options, progress, stop)
