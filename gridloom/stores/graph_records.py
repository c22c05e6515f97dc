"""LangGraph checkpoints as records: one row a checkpoint, a channel value, a pending write; and the changes to them.

Rows of a thread are removed by `GraphChange` records in journal order, so that a retention rule holds wherever the
journal is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gridloom.stores.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphCheckpointRecord(Record):
    """State of a thread after a super-step; channel values lie in `graph_blobs`."""

    TABLE: ClassVar[str] = "graph_checkpoints"
    KEY: ClassVar[tuple[str, ...]] = ("thread_id", "checkpoint_ns", "checkpoint_id")
    FINITE: ClassVar[bool] = True
    run_id: str
    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    parent_checkpoint_id: str | None
    step: int | None
    source: str | None
    """input, loop, update or fork."""
    graph_run_id: str | None
    """LangGraph's run_id in the metadata, not that of gridloom."""
    checkpoint_type: str
    """Serializer's name for the encoding of checkpoint_blob."""
    checkpoint_blob: bytes
    metadata_type: str
    metadata_blob: bytes
    saved_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBlobRecord(Record):
    """Value of one channel at one version."""

    TABLE: ClassVar[str] = "graph_blobs"
    KEY: ClassVar[tuple[str, ...]] = ("thread_id", "checkpoint_ns", "channel", "version")
    FINITE: ClassVar[bool] = True
    run_id: str
    thread_id: str
    checkpoint_ns: str
    channel: str
    version: str
    """Version as JSON: an int, a float or a string."""
    value_type: str
    value_blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphWriteRecord(Record):
    """Pending write of a task, which the next checkpoint applies."""

    TABLE: ClassVar[str] = "graph_writes"
    KEY: ClassVar[tuple[str, ...]] = ("thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx")
    FINITE: ClassVar[bool] = True
    run_id: str
    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    idx: int
    """Position in the call; negative for LangGraph's special channels, which replace what was written before."""
    channel: str
    value_type: str
    value_blob: bytes
    task_path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphChange(Record):
    """Not a row: removes all rows of `thread_id`, or those of the named checkpoints and channel versions."""

    TABLE: ClassVar[str] = "graph_changes"
    KEY: ClassVar[tuple[str, ...]] = ()
    FINITE: ClassVar[bool] = True
    thread_id: str
    checkpoints: list[list[str]] | None = None
    """[[checkpoint_ns, checkpoint_id]] to remove with their writes; None removes the thread."""
    blobs: list[list[str]] | None = None
    """[[checkpoint_ns, channel, version]] to remove."""


GraphRecord = GraphCheckpointRecord | GraphBlobRecord | GraphWriteRecord

GRAPH_TABLES: tuple[type[Record], ...] = (GraphCheckpointRecord, GraphBlobRecord, GraphWriteRecord)
