"""Records of the processes of a run: a run that is stopped and started again has several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridloom.stores.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord(Record):
    """One process of a run, from its start to its end."""

    TABLE: ClassVar[str] = "run_processes"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "process")
    UPDATES: ClassVar[bool] = True
    run_id: str
    process: str
    """Id of the process, which sorts by time."""
    host: str | None = None
    pid: int | None = None
    device: str | None = None
    gridloom_version: str | None = None
    status: str | None = None
    """started, done, failed or interrupted; a killed process stays `started`, which v_processes shows as crashed."""
    seconds: float | None = None
    """Time since its start by a clock that is never set, s; of a killed process up to its last sign of life."""
    started_at: float | None = None
    ended_at: float | None = None
    error: str | None = None
    worker: str | None = None
    """Name of the worker, such as local-0; None for the process that executes the run. A worker that was lost has the
    status `lost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProcessRecord(Record):
    """Execution of a stage by one process of a run."""

    TABLE: ClassVar[str] = "stage_processes"
    KEY: ClassVar[tuple[str, ...]] = ("run_id", "process", "stage")
    UPDATES: ClassVar[bool] = True
    run_id: str
    process: str
    """Process in run_processes."""
    stage: str
    key: str | None = None
    status: str | None = None
    """running, done, failed or interrupted."""
    seconds: float | None = None
    """Time since the stage's start in this process, s; of a killed process up to its last sign of life."""
    started_at: float | None = None
    ended_at: float | None = None


PROCESS_TABLES: tuple[type[Record], ...] = (ProcessRecord, StageProcessRecord)
