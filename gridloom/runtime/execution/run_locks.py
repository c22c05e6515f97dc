"""Choice of a plan's run id, and locks that exclude a second process from a run or a stage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.planning.plan import RunPlan
from gridloom.stores.files import locks
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.clock_id import clock_id
from gridloom.stores.workspace import Workspace

RESUMABLE = ("started", "interrupted", "failed")


def choose_run_id(plan: RunPlan, workspace: Workspace) -> str:
    """Return the id of the newest unfinished run of this graph, or a new id (`clock_id`)."""
    if plan.num_to_run and (workspace.ledger_path.exists() or workspace.journal_dir.exists()):
        newest = "select run_id, status from runs where graph_key = ? order by started_at desc limit 1"
        for run in Ledger(workspace).rows(newest, [plan.graph.key]):
            if run["status"] in RESUMABLE and not _is_locked(workspace, str(run["run_id"])):
                return str(run["run_id"])
    return clock_id()


def _locks(workspace: Workspace) -> Path:
    return workspace.root / "locks"


def _is_locked(workspace: Workspace, run_id: str) -> bool:
    path = _locks(workspace) / f"run-{run_id}.lock"
    if not path.exists():
        return False
    with path.open("a") as handle:
        return not locks.take(handle.fileno())


@contextmanager
def run_lock(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Lock a run for this process. Raises StageError that names the process that holds the lock."""
    with _flock(_locks(workspace) / f"run-{run_id}.lock", f"run {run_id} is going on in another process"):
        yield


@contextmanager
def stage_lock(workspace: Workspace, node: StageNode) -> Iterator[None]:
    """Lock the key of a stage for this process. Raises StageError that names the process that holds the lock."""
    path = _locks(workspace) / f"stage-{node.key.replace(':', '-')}.lock"
    with _flock(path, f"stage {node.name!r} ({node.key}) is being run by another process"):
        yield


@contextmanager
def _flock(path: Path, problem: str) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as handle:
        if not locks.take(handle.fileno()):
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise StageError(f"{problem} (pid {holder})", "wait for it, or stop it")
        handle.seek(0)
        handle.truncate()
        handle.write(str(os.getpid()))
        handle.flush()
        yield
