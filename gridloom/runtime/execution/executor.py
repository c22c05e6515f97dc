"""Executor of a plan: runs its stages in order, skips cached stages, publishes and records the others.

A failed stage blocks only the stages that depend on it: the others run, and the run fails at its end. A signal, the
walltime, a full disk and a damaged store stop the whole run at once.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.fingerprint import key_inputs
from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted, StoreError
from gridloom.progress import Progress, StopSignal
from gridloom.runtime.execution.out_of_memory import memory_advice
from gridloom.runtime.execution.process_log import ProcessLog
from gridloom.runtime.execution.run_locks import choose_run_id, run_lock, stage_lock
from gridloom.runtime.execution.run_outcome import (
    STOPPED_AT_ONCE,
    RunFailed,
    RunResult,
    failure_text,
    first_line,
    is_out_of_space,
    stops_everything,
)
from gridloom.runtime.machine.device import resolve_device
from gridloom.runtime.machine.memory import MemoryMeter
from gridloom.runtime.planning.local import Planned, spec_base
from gridloom.runtime.planning.plan import PlannedStage, RunPlan
from gridloom.runtime.stage import Stage, StageContext, load_stage
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import ArtifactRecord, EstimateRecord, RunRecord, StageRecord
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


def execute(
    plan: RunPlan,
    workspace: Workspace,
    options: RunOptions,
    progress: Progress,
    stop: StopSignal,
    stage_factory: Callable[[str], Stage] = load_stage,
) -> RunResult:
    """Run every stage that the plan marks to run, in order.

    An interrupted, crashed or failed run of the same graph is resumed under its run id.

    Raises:
        StageInterrupted: `stop` was set; the stage saved its state and the run is marked interrupted.
        RunFailed: stages failed; the stages that do not depend on them were executed, and the run is marked failed.
        StoreError: the disk is full, or the ledger or the artifact store cannot be used; the run stopped at once.
    """
    started = time.monotonic()
    to_run = [planned.node for planned in plan.stages if planned.state == "run"]
    device = resolve_device(options.device or plan.graph.device) if to_run else (options.device or plan.graph.device)
    run_id = choose_run_id(plan, workspace)
    with LedgerWriter(workspace, run_id) as ledger, run_lock(workspace, run_id):
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
        ledger.append(*_estimates(run_id, to_run, options.speeds))
        log = ProcessLog(ledger, run_id, device)
        store = ArtifactStore(workspace)
        walk = _Walk(plan, run_id, device, options, store, ledger, log, progress, stop, stage_factory)
        status: str = "failed"
        error: str | None = None
        try:
            with log.running():
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
    Ledger(workspace).ingest()
    if result.failed:
        raise RunFailed(result, plan.graph)
    return result


def _dependents(plan: RunPlan, name: str) -> set[str]:
    found = {name}
    for planned in plan.stages:
        if planned.state == "run" and found & set(planned.node.inputs.values()):
            found.add(planned.node.name)
    return found - {name}


def _stage_record(run_id: str, node: StageNode, status: str, **fields: Any) -> StageRecord:
    return StageRecord(run_id=run_id, stage=node.name, kind=node.kind, key=node.key, status=status, **fields)


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
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def walk(self) -> None:
        """Run the stages in order. Raises errors that stop the whole run."""
        for planned in self.plan.stages:
            node = planned.node
            roots = self._roots(node)
            if planned.state == "run" and roots:
                self.blocked[node.name] = roots
                self._record(node, "blocked", error=f"blocked by {', '.join(roots)}")
                continue
            if planned.state == "run" and self.stop:
                raise StageInterrupted(
                    f"stopped by {self.stop.reason} before {node.name}", "run again: finished stages are kept"
                )
            try:
                if planned.state == "cached":
                    self.artifacts[node.name] = _published(self.store, node)
                    self._record(node, "cached")
                    self.cached.append(node.name)
                else:
                    self.artifacts[node.name] = self._run(planned)
                    self.executed.append(node.name)
            except Exception as failure:
                if stops_everything(failure):
                    raise
                self._fail(node, failure)

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
        self.progress.say(f"{node.name} failed: {first_line(problem)}{blocks}")

    def _run(self, planned: PlannedStage) -> Artifact:
        node = planned.node
        inputs = {name: self.artifacts[target] for name, target in node.inputs.items()}
        self._record(node, "running", started_at=time.time())
        notes: dict[str, Any] = {}
        try:
            with stage_lock(self.store.workspace, node), self.log.stage(node):
                artifact = self._publish(node, self._verified(inputs), notes)
        except BaseException as failure:
            status = "interrupted" if isinstance(failure, StageInterrupted | KeyboardInterrupt) else "failed"
            self._record(node, status, ended_at=time.time(), error=failure_text(failure), notes=notes)
            raise
        now = time.time()
        self.ledger.append(
            _stage_record(self.run_id, node, "done", ended_at=now, notes=notes),
            ArtifactRecord(
                key=artifact.key,
                type=artifact.type,
                kind=node.kind,
                run_id=self.run_id,
                stage=node.name,
                bytes=artifact.num_bytes,
                created_at=now,
            ),
        )
        self.store.remove_work(node.key)
        return artifact

    def _verified(self, inputs: dict[str, Artifact]) -> dict[str, Artifact]:
        for artifact in inputs.values():
            try:
                self.store.verify(artifact)
            except StoreError as damaged:
                if is_out_of_space(damaged):
                    raise
                # a damaged input fails only the stages that read it
                raise StageError(damaged.message, damaged.remedy) from damaged
        return inputs

    def _publish(self, node: StageNode, inputs: dict[str, Artifact], notes: dict[str, Any]) -> Artifact:
        with self.store.writing(node.key) as out:
            context = StageContext(
                run_id=self.run_id,
                device=self.device,
                work=self.store.work_dir(node.key),
                out=out,
                base=self.options.base,
                ledger=self.ledger,
                progress=self.progress,
                stop=self.stop,
                ranks=self.options.ranks,
                notes=notes,
            )
            stage = self.stage_factory(node.kind)
            meter = MemoryMeter(self.device) if node.cost is not None else None
            try:
                with memory_advice(node, self.device):
                    stage.run(node, inputs, context)
            except Exception as failure:
                if is_out_of_space(failure) and not isinstance(failure, StoreError):
                    raise StoreError(
                        f"cannot write in {out}: {failure}",
                        "free some space or point GRIDLOOM_HOME at another disk, then run again: finished stages are "
                        "kept",
                    ) from failure
                raise
            if meter is not None:
                notes.update(peak_memory_bytes=meter.peak(), stage_memory_bytes=meter.grown())
            producer = {
                "stage": node.name,
                "kind": node.kind,
                "version": node.version,
                "run_id": self.run_id,
                "key_inputs": key_inputs(self.plan.graph, node),
                "spec": node.spec,
                "gridloom": __version__,
            }
            return self.store.publish(
                out,
                key=node.key,
                type=node.produces,
                kind=node.kind,
                producer=producer,
                inputs={name: artifact.key for name, artifact in inputs.items()},
            )

    def _record(self, node: StageNode, status: str, **fields: Any) -> None:
        self.ledger.append(_stage_record(self.run_id, node, status, **fields))


def _estimates(run_id: str, nodes: list[StageNode], speeds: DeviceSpeeds | None) -> list[EstimateRecord]:
    return [
        EstimateRecord(
            run_id=run_id,
            stage=node.name,
            parameters=cost.parameters,
            frozen_parameters=cost.frozen_parameters,
            flops={name: float(count) for name, count in cost.flops.items()},
            step=cost.step,
            num_steps=cost.num_steps,
            peak_bytes=cost.peak_bytes,
            seconds=speeds.seconds(cost) if speeds else None,
            calibrated_on=speeds.device if speeds else None,
            assumes=list(cost.assumes),
        )
        for node in nodes
        if (cost := node.cost) is not None
    ]


def run_local(
    planned: Planned,
    spec: str,
    overrides: Sequence[str],
    workspace: Workspace,
    progress: Progress,
    stop: StopSignal,
    device: str | None = None,
    ranks: Ranks | None = None,
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
    )
    return execute(planned.plan, workspace, options, progress, stop)
