"""Records of this process of a run: its start and end, its stages, and a sign of life while it works."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageInterrupted, StoreError
from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import Record
from gridloom.stores.runs.clock_id import clock_id
from gridloom.stores.runs.process_records import ProcessRecord, StageProcessRecord
from gridloom.version import __version__

FIRST_SIGN_S, SIGN_EVERY_S = 1.0, 16.0
"""Time until the first sign of life, which doubles up to the second figure: what a killed process loses of its time."""


@dataclass(slots=True)
class ProcessLog:
    """Log of one process of a run, over times of a monotonic clock."""

    ledger: LedgerWriter
    run_id: str
    device: str
    process: str = field(default_factory=clock_id)
    _began: float = field(default_factory=time.monotonic)
    _stages: dict[str, float] = field(default_factory=dict)
    """Stages that are being executed, with their starts."""
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[ProcessLog]:
        """Record the start of the process, and signs of life until the block ends."""
        self.ledger.append(
            self._record(
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self.device,
                gridloom_version=__version__,
                status="started",
                started_at=time.time(),
            )
        )
        alive = threading.Thread(target=self._sign, name="gridloom-process-log", daemon=True)
        alive.start()
        try:
            yield self
        finally:
            self._ended.set()
            alive.join()

    def end(self, status: str, error: str | None) -> ProcessRecord:
        """Return the record of the end of the process."""
        self._ended.set()
        return self._record(status=status, error=error, ended_at=time.time(), seconds=self._seconds)

    @contextmanager
    def stage(self, node: StageNode) -> Iterator[None]:
        """Record the execution of a stage by this process, with its duration and how it ended."""
        began = time.monotonic()
        self._stages[node.name] = began
        where: dict[str, Any] = {"run_id": self.run_id, "process": self.process, "stage": node.name}
        self.ledger.append(StageProcessRecord(**where, key=node.key, status="running", started_at=time.time()))
        status = "failed"
        try:
            yield
            status = "done"
        except (StageInterrupted, KeyboardInterrupt):
            status = "interrupted"
            raise
        finally:
            self._stages.pop(node.name, None)
            seconds = time.monotonic() - began
            self.ledger.append(StageProcessRecord(**where, status=status, ended_at=time.time(), seconds=seconds))

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    def _record(self, **columns: Any) -> ProcessRecord:
        return ProcessRecord(run_id=self.run_id, process=self.process, **columns)

    def _sign(self) -> None:
        wait = FIRST_SIGN_S
        while not self._ended.wait(wait):
            wait = min(2 * wait, SIGN_EVERY_S)
            records: list[Record] = [self._record(seconds=self._seconds)]
            records += [
                StageProcessRecord(
                    run_id=self.run_id, process=self.process, stage=stage, seconds=time.monotonic() - began
                )
                for stage, began in [*self._stages.items()]
            ]
            with suppress(StoreError):  # a full disk is reported by the stage, whose records count
                self.ledger.append(*records)
