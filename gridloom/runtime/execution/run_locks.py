"""Choice of a plan's run id, and locks that exclude a second process from a run or a stage."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.planning.plan import RunPlan
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage
from gridloom.stores.keeping.in_use import using_artifacts
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.clock_id import clock_id
from gridloom.stores.workspace import Workspace

RESUMABLE = ("started", "interrupted", "failed")
POLL_S = 0.1
"""Time between two looks at a lock that another process holds, s."""


def choose_run_id(plan: RunPlan, workspace: Workspace) -> str:
    """Return the id of the newest unfinished run of this graph, or a new id (`clock_id`).

    A run that was killed after its last stage is unfinished, too. Raises StoreError.
    """
    ledger = Ledger(workspace)
    if ledger.has_records():
        newest = "select run_id, status from runs where graph_key = ? order by started_at desc limit 1"
        for run in ledger.rows(newest, [plan.graph.key]):
            if run["status"] in RESUMABLE and not _is_locked(workspace, str(run["run_id"])):
                return str(run["run_id"])
    return clock_id()


def _locks(workspace: Workspace) -> Path:
    return workspace.root / "locks"


def _is_locked(workspace: Workspace, run_id: str) -> bool:
    path = _locks(workspace) / f"run-{run_id}.lock"
    with storage("look at a lock", path.parent):
        return path.exists() and locks.is_held(path)


@contextmanager
def run_lock(workspace: Workspace, run_id: str) -> Iterator[None]:
    """Lock a run for this process, and keep artifacts from being removed meanwhile.

    Raises:
        StageError: another process holds the lock; names the process.
        StoreError: artifacts are being removed, or the folder of locks cannot be used.
    """
    path, problem = _locks(workspace) / f"run-{run_id}.lock", f"run {run_id} is going on in another process"
    with using_artifacts(workspace), _held(workspace, path, problem, "wait for it, or stop it", None):
        yield


@contextmanager
def stage_lock(
    workspace: Workspace,
    node: StageNode,
    waiting: Callable[[str], None] | None = None,
    remedy: str = "wait for it, or stop it",
) -> Iterator[None]:
    """Lock the key of a stage for this process.

    Args:
        waiting: called with the holder, such as 'process 4711 on box', again and again until the lock is free; what it
            raises ends the wait. None for no wait.
        remedy: remedy of the error.

    Raises:
        StageError: another process holds the lock and `waiting` is None; names the process.
        StoreError: the folder of locks cannot be used.
    """
    path = _locks(workspace) / f"stage-{node.key.replace(':', '-')}.lock"
    problem = f"stage {node.name!r} ({node.key}) is being run by another process"
    with _held(workspace, path, problem, remedy, waiting):
        yield


@contextmanager
def _held(
    workspace: Workspace, path: Path, problem: str, remedy: str, waiting: Callable[[str], None] | None
) -> Iterator[None]:
    workspace.ensure(path.parent)
    with storage("take a lock", path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with storage("take a lock", path.parent):
            free = locks.take(descriptor)
        while not free:
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip() or "unknown"
            if waiting is None:
                raise StageError(f"{problem} (pid {holder})", remedy)
            waiting(f"process {holder}")
            with storage("take a lock", path.parent):
                free = locks.take(descriptor, timeout_s=POLL_S)
        with storage("take a lock", path.parent):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
