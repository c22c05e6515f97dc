"""LangGraph threads in memory: checkpoints, channel values and pending writes, as records."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from langgraph.checkpoint.base import Checkpoint, PendingWrite, writes_sort_key
from langgraph.checkpoint.serde.base import SerializerProtocol

from gridloom.stores.graph_records import (
    GraphBlobRecord,
    GraphChange,
    GraphCheckpointRecord,
    GraphRecord,
    GraphWriteRecord,
)

CheckpointPlace = tuple[str, str]
"""(checkpoint_ns, checkpoint_id)"""
BlobKey = tuple[str, str, str]
"""(checkpoint_ns, channel, version as JSON)"""
EMPTY = "empty"
"""value_type of a channel that had no value at that version."""


@dataclass(slots=True)
class Thread:
    """Records of one thread."""

    checkpoints: dict[CheckpointPlace, GraphCheckpointRecord] = field(default_factory=dict)
    blobs: dict[BlobKey, GraphBlobRecord] = field(default_factory=dict)
    writes: dict[CheckpointPlace, dict[tuple[str, int], GraphWriteRecord]] = field(default_factory=dict)

    def take(self, record: GraphRecord) -> None:
        """Add a record, in place of an earlier one with the same key."""
        if isinstance(record, GraphBlobRecord):
            self.blobs[record.checkpoint_ns, record.channel, record.version] = record
        elif isinstance(record, GraphCheckpointRecord):
            self.checkpoints[record.checkpoint_ns, record.checkpoint_id] = record
        else:
            at = self.writes.setdefault((record.checkpoint_ns, record.checkpoint_id), {})
            at[record.task_id, record.idx] = record

    def records(self) -> list[GraphRecord]:
        """Return all records, blobs first."""
        writes = [write for at in self.writes.values() for write in at.values()]
        return [*self.blobs.values(), *self.checkpoints.values(), *writes]

    def latest(self, ns: str) -> GraphCheckpointRecord | None:
        """Return the latest checkpoint of a namespace: of those that none was made from, the one of the largest id.

        Ids sort by the clock, which may have been set back between two lives of a run: then what the second life made
        sorts before what it was made from.
        """
        here = {checkpoint_id: record for (space, checkpoint_id), record in self.checkpoints.items() if space == ns}
        parents = {one.parent_checkpoint_id for one in here.values() if one.parent_checkpoint_id != one.checkpoint_id}
        return here[max(here.keys() - parents)] if here else None

    def values(self, record: GraphCheckpointRecord, serde: SerializerProtocol) -> dict[str, Any]:
        """Return the channel values of a checkpoint."""
        values = {}
        for channel, version in read_body(record, serde)["channel_versions"].items():
            blob = self.blobs.get((record.checkpoint_ns, channel, json.dumps(version)))
            if blob is not None and blob.value_type != EMPTY:
                values[channel] = serde.loads_typed((blob.value_type, blob.value_blob))
        return values

    def pending_writes(self, record: GraphCheckpointRecord, serde: SerializerProtocol) -> list[PendingWrite]:
        """Return the writes on a checkpoint, in the order in which LangGraph applies them."""
        writes = self.writes.get((record.checkpoint_ns, record.checkpoint_id), {}).values()
        return [
            (write.task_id, write.channel, serde.loads_typed((write.value_type, write.value_blob)))
            for write in sorted(writes, key=lambda write: writes_sort_key(write.task_path, write.task_id, write.idx))
        ]

    def superseded(self, serde: SerializerProtocol) -> set[CheckpointPlace]:
        """Return the checkpoints that the latest of their namespace does not need."""
        needed = {place for ns in {ns for ns, _ in self.checkpoints} for place in self._needed(ns, serde)}
        return self.checkpoints.keys() - needed

    def drop(self, places: Collection[CheckpointPlace], thread_id: str, serde: SerializerProtocol) -> GraphChange:
        """Return the change that removes checkpoints, their writes, and the values that no other checkpoint uses."""
        used = {
            (ns, channel, json.dumps(version))
            for (ns, checkpoint_id), record in self.checkpoints.items()
            if (ns, checkpoint_id) not in places
            for channel, version in read_body(record, serde)["channel_versions"].items()
        }
        return GraphChange(
            thread_id=thread_id,
            checkpoints=sorted([*place] for place in places),
            blobs=sorted([*key] for key in self.blobs.keys() - used),
        )

    def apply(self, change: GraphChange) -> None:
        """Remove the records that a change names."""
        for ns, checkpoint_id in change.checkpoints or ():
            del self.checkpoints[ns, checkpoint_id]
            self.writes.pop((ns, checkpoint_id), None)
        for ns, channel, version in change.blobs or ():
            del self.blobs[ns, channel, version]

    def _needed(self, ns: str, serde: SerializerProtocol) -> Iterator[CheckpointPlace]:
        """Yield the latest checkpoint of a namespace and the ancestors that its delta channels are rebuilt from."""
        record = self.latest(ns)
        metadata = read_metadata(record, serde) if record else {}
        unset = set(metadata.get("counters_since_delta_snapshot", ()))
        while record is not None:
            yield ns, record.checkpoint_id
            unset -= self.values(record, serde).keys()
            parent_id = record.parent_checkpoint_id
            record = self.checkpoints.get((ns, parent_id)) if unset and parent_id else None


@dataclass(slots=True)
class Memory:
    """State that a saver shares with its clones (LangGraph makes shallow copies)."""

    threads: dict[str, Thread] = field(default_factory=dict)
    stored: set[str] | None = None
    """Ids of the threads in the ledger at its first query; None before."""
    lock: threading.RLock = field(default_factory=threading.RLock)


def read_body(record: GraphCheckpointRecord, serde: SerializerProtocol) -> Checkpoint:
    """Return a checkpoint without its channel values."""
    return cast(Checkpoint, serde.loads_typed((record.checkpoint_type, record.checkpoint_blob)))


def read_metadata(record: GraphCheckpointRecord, serde: SerializerProtocol) -> dict[str, Any]:
    """Return a checkpoint's metadata."""
    return cast(dict[str, Any], serde.loads_typed((record.metadata_type, record.metadata_blob)))
