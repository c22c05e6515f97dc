"""Crew of a run: workers of the place that `--on` names, recorded as processes of the run, and steady ingestion."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from gridloom.errors import GridloomError, StoreError
from gridloom.runtime.cluster.crew import Crew, Workers
from gridloom.runtime.cluster.local_workers import LocalWorkers
from gridloom.runtime.cluster.messages import Message
from gridloom.runtime.cluster.shipped import Shipped
from gridloom.runtime.cluster.where import Where
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.runs.clock_id import clock_id
from gridloom.stores.runs.process_records import ProcessRecord
from gridloom.stores.workspace import Workspace

INGEST_EVERY_S = 5.0
"""Shortest time between two ingestions while workers run, s."""
INGEST_SHARE = 20
"""An ingestion that takes t is followed by a pause of at least this many t, so that it costs 5% of a processor."""


@contextmanager
def crew_of_run(
    where: Where, workspace: Workspace, device: str, ledger: LedgerWriter, say: Callable[[str], None]
) -> Iterator[Crew]:
    """Yield the crew of a run; its workers end with the block.

    Args:
        device: device as the spec or the command names it; each node resolves `auto` and `cuda` for itself.

    Raises GridloomError where the cluster cannot be reached.
    """
    with ExitStack() as stack:
        workers = workers_of(where, workspace)
        shipped = None
        if workers.ships_journals:
            shipped = Shipped(workspace)
            stack.callback(shipped.close)
        crew = Crew(workers, device, say, _Recorder(ledger).record, shipped)
        stack.callback(crew.close)
        stack.enter_context(_ingesting(workspace))
        yield crew


def workers_of(where: Where, workspace: Workspace) -> Workers:
    """Return the workers of a place, not yet started. Raises GridloomError."""
    if where.kind == "local":
        return LocalWorkers(where.num_workers or 1, workspace)
    if where.kind == "srun":
        from gridloom.runtime.cluster.srun_workers import srun_workers

        return srun_workers(where.num_workers, workspace)
    if where.kind == "ray":
        from gridloom.runtime.cluster.ray_workers import RayWorkers

        return RayWorkers(where, workspace)
    raise GridloomError(f"--on {where} has no workers that a stage could share", "write local:N, srun or ray")


class _Recorder:
    """Records of workers as processes of the run: started, done, or lost."""

    def __init__(self, ledger: LedgerWriter) -> None:
        self._ledger = ledger
        self._processes: dict[str, tuple[str, float]] = {}

    def record(self, worker: str, status: str, greeting: Message) -> None:
        """Record a change of a worker's status; a worker that starts again is another process."""
        if status == "started":
            self._processes[worker] = clock_id(), time.monotonic()
        process, began = self._processes[worker]
        where: dict[str, Any] = {"run_id": self._ledger.run_id, "process": process}
        if status == "started":
            self._ledger.append(
                ProcessRecord(
                    **where,
                    host=greeting["host"],
                    pid=greeting["pid"],
                    gridloom_version=greeting["gridloom"],
                    status=status,
                    started_at=time.time(),
                    worker=worker,
                )
            )
            return
        seconds = time.monotonic() - began
        self._ledger.append(
            ProcessRecord(**where, status=status, seconds=seconds, ended_at=time.time(), error=greeting.get("error"))
        )


@contextmanager
def _ingesting(workspace: Workspace) -> Iterator[None]:
    """Ingest the workers' journals while the block runs, so that the end of the run has little left to do."""
    ended = threading.Event()

    def ingest() -> None:
        pause = INGEST_EVERY_S
        while not ended.wait(pause):
            began = time.monotonic()
            with suppress(StoreError):  # a full disk or a held ledger is reported by the stages, which need it
                Ledger(workspace).ingest()
            pause = max(INGEST_EVERY_S, INGEST_SHARE * (time.monotonic() - began))

    thread = threading.Thread(target=ingest, name="gridloom-ingest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
