"""Executes a Plan: walks its stages in order, skips what is published, publishes what runs, records both."""

from __future__ import annotations

import fcntl
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gridloom
from gridloom.compiler.calibration import Calibration
from gridloom.compiler.fingerprint import key_inputs
from gridloom.compiler.graph import StageNode
from gridloom.errors import GridloomError, StageError, StageInterrupted, StoreError
from gridloom.runtime.device import resolve_device
from gridloom.runtime.plan import Plan, PlannedStage
from gridloom.runtime.registry import load_stage
from gridloom.runtime.stage import Progress, Stage, StageContext, StopSignal
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.records import ArtifactRecord, EstimateRecord, RunRecord, StageRecord
from gridloom.stores.workspace import Workspace

RESUMABLE = ("started", "interrupted", "failed")


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was done, by stage name; `executed` and `cached` together are the plan's stages."""

    run_id: str
    executed: tuple[str, ...]
    cached: tuple[str, ...]
    artifacts: dict[str, Artifact]
    seconds: float


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is executed; nothing here changes what is computed."""

    base: Path
    """Folder that relative paths in the spec start from."""
    spec: str
    """The spec as the user typed it, for the ledger and for messages."""
    overrides: tuple[str, ...] = ()
    calibration: Calibration | None = None
    """Of the device it runs on, for the times in the ledger."""
    device: str | None = None
    """Overrides the spec's `device`."""


def execute(
    plan: Plan,
    workspace: Workspace,
    options: RunOptions,
    progress: Progress,
    stop: StopSignal,
    stage_factory: Callable[[str], Stage] = load_stage,
) -> RunResult:
    """Run every stage that the plan says will run, in order.

    A run of the same graph that was interrupted, crashed or failed is continued under its own run id.

    Raises:
        StageInterrupted: `stop` was set; the stage saved its state and the run is marked interrupted.
        GridloomError: a stage failed; the run is marked failed and earlier artifacts stay published.
    """
    started = time.monotonic()
    store = ArtifactStore(workspace)
    to_run = [planned.node for planned in plan.stages if planned.state == "run"]
    device = resolve_device(options.device or plan.graph.device) if to_run else (options.device or plan.graph.device)
    run_id = _choose_run_id(plan, workspace)
    artifacts: dict[str, Artifact] = {}
    executed: list[str] = []
    cached: list[str] = []
    with LedgerWriter(workspace, run_id) as ledger, _run_lock(workspace, run_id):
        ledger.append(
            RunRecord(
                run_id=run_id, name=plan.graph.name, graph_key=plan.graph.key, status="started", spec=options.spec,
                overrides=list(options.overrides), graph=plan.graph.to_json(), device=device,
                host=socket.gethostname(), pid=os.getpid(), gridloom_version=gridloom.__version__,
                started_at=time.time(),
            )
        )
        ledger.append(*_estimates(run_id, to_run, options.calibration))
        status, error = "failed", None
        try:
            for planned in plan.stages:
                node = planned.node
                if planned.state == "cached":
                    artifacts[node.name] = _published(store, node)
                    cached.append(node.name)
                    ledger.append(_stage_record(run_id, node, "cached"))
                    continue
                inputs = {field: artifacts[name] for field, name in node.inputs.items()}
                with _stage_lock(store, node):
                    artifacts[node.name] = _run_stage(
                        planned, inputs, run_id, device, options, store, ledger, progress, stop, plan, stage_factory
                    )
                executed.append(node.name)
            status = "done"
        except StageInterrupted as interrupted:
            status, error = "interrupted", interrupted.message
            raise
        except KeyboardInterrupt:
            status, error = "interrupted", "stopped at once by a second Ctrl-C"
            raise
        except BaseException as failure:
            error = str(failure)
            raise
        finally:
            ledger.append(RunRecord(run_id=run_id, status=status, error=error, ended_at=time.time()))
            ledger.sync()
    Ledger(workspace).ingest()
    return RunResult(run_id, tuple(executed), tuple(cached), artifacts, time.monotonic() - started)


def _run_stage(
    planned: PlannedStage,
    inputs: dict[str, Artifact],
    run_id: str,
    device: str,
    options: RunOptions,
    store: ArtifactStore,
    ledger: LedgerWriter,
    progress: Progress,
    stop: StopSignal,
    plan: Plan,
    stage_factory: Callable[[str], Stage],
) -> Artifact:
    node = planned.node
    for artifact in inputs.values():
        store.verify(artifact)
    ledger.append(_stage_record(run_id, node, "running", started_at=time.time()))
    notes: dict[str, Any] = {}
    try:
        with store.writing(node.key) as out:
            context = StageContext(
                run_id=run_id, device=device, work=store.work_dir(node.key), out=out, base=options.base, ledger=ledger,
                progress=progress, stop=stop, notes=notes,
            )
            _out_of_space_named(lambda: stage_factory(node.kind).run(node, inputs, context), out)
            producer = {
                "stage": node.name, "kind": node.kind, "version": node.version, "run_id": run_id,
                "key_inputs": key_inputs(plan.graph, node), "gridloom": gridloom.__version__,
            }
            artifact = store.publish(
                out, key=node.key, type=node.produces, kind=node.kind, producer=producer,
                inputs={field: a.key for field, a in inputs.items()},
            )
    except BaseException as failure:
        status = "interrupted" if isinstance(failure, StageInterrupted | KeyboardInterrupt) else "failed"
        detail = str(failure) if isinstance(failure, GridloomError) else traceback.format_exc()
        ledger.append(_stage_record(run_id, node, status, ended_at=time.time(), error=detail, notes=notes))
        raise
    now = time.time()
    ledger.append(
        _stage_record(run_id, node, "done", ended_at=now, notes=notes),
        ArtifactRecord(
            key=artifact.key, type=artifact.type, kind=node.kind, run_id=run_id, stage=node.name,
            bytes=artifact.num_bytes, created_at=now,
        ),
    )
    store.remove_work(node.key)
    return artifact


def _out_of_space_named(work: Callable[[], None], folder: Path) -> None:
    """Run `work`; an OSError for a full or read-only disk becomes a StoreError that names the folder."""
    import errno

    try:
        work()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise StoreError(
                f"cannot write in {folder}: {os.strerror(error.errno)}",
                "free some space or point GRIDLOOM_HOME at another disk, then run again: finished stages are kept",
            ) from error
        raise


def _estimates(run_id: str, nodes: list[StageNode], calibration: Calibration | None) -> list[EstimateRecord]:
    return [
        EstimateRecord(
            run_id=run_id, stage=node.name, parameters=cost.parameters, frozen_parameters=cost.frozen_parameters,
            flops={name: float(count) for name, count in cost.flops.items()}, step=cost.step, num_steps=cost.num_steps,
            peak_bytes=cost.peak_bytes, seconds=calibration.seconds(cost) if calibration else None,
            calibrated_on=calibration.device if calibration else None, assumes=list(cost.assumes),
        )
        for node in nodes
        if (cost := node.cost) is not None
    ]


def _stage_record(run_id: str, node: StageNode, status: str, **fields: Any) -> StageRecord:
    return StageRecord(run_id=run_id, stage=node.name, kind=node.kind, key=node.key, status=status, **fields)


def _published(store: ArtifactStore, node: StageNode) -> Artifact:
    artifact = store.find(node.key)
    if artifact is None:
        raise StageError(
            f"the plan counts on a cached {node.name!r} ({node.key}), but its artifact is gone",
            "run again: a new plan will make it",
        )
    return artifact


def _choose_run_id(plan: Plan, workspace: Workspace) -> str:
    """Return the id of the newest unfinished run of this very graph, or a new one named by the clock."""
    if plan.num_to_run and (workspace.ledger_path.exists() or workspace.journal_dir.exists()):
        newest = "select run_id, status from runs where graph_key = ? order by started_at desc limit 1"
        for run in Ledger(workspace).rows(newest, [plan.graph.key]):
            if run["status"] in RESUMABLE and not _is_locked(workspace, str(run["run_id"])):
                return str(run["run_id"])
    stem = time.strftime("%Y-%m-%dT%H-%M-%S", time.gmtime())
    taken = {path.stem for path in _locks(workspace).glob("run-*.lock")}
    run_id, suffix = stem, 1
    while f"run-{run_id}" in taken:
        suffix += 1
        run_id = f"{stem}-{suffix}"
    return run_id


def _locks(workspace: Workspace) -> Path:
    return workspace.root / "locks"


def _is_locked(workspace: Workspace, run_id: str) -> bool:
    path = _locks(workspace) / f"run-{run_id}.lock"
    if not path.exists():
        return False
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def _run_lock(workspace: Workspace, run_id: str) -> Iterator[None]:
    with _flock(_locks(workspace) / f"run-{run_id}.lock", f"run {run_id} is going on in another process"):
        yield


@contextmanager
def _stage_lock(store: ArtifactStore, node: StageNode) -> Iterator[None]:
    path = _locks(store.workspace) / f"stage-{node.key.replace(':', '-')}.lock"
    with _flock(path, f"stage {node.name!r} ({node.key}) is being run by another process"):
        yield


@contextmanager
def _flock(path: Path, problem: str) -> Iterator[None]:
    # flock is released by the kernel when the process dies, so a killed run never leaves a stale lock.
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise StageError(f"{problem} (pid {holder})", "wait for it, or stop it") from None
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield
