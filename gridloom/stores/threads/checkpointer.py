"""LangGraph's state in the ledger: written through the journal, read from memory, else from the ledger."""

from __future__ import annotations

import builtins
import json
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from gridloom.stores.graph_records import (
    GraphBlobRecord,
    GraphChange,
    GraphCheckpointRecord,
    GraphRecord,
    GraphWriteRecord,
)
from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.threads.graph_threads import EMPTY, CheckpointPlace, Memory, Thread, read_body, read_metadata


class StoredThreads(Protocol):
    """Place of the threads that other processes wrote: a `Ledger`, or the records that a worker was given."""

    def graph_threads(self) -> set[str]:
        """Return the ids of the stored threads; the saver reads them once and keeps the set."""

    def read_graphs(self, thread_ids: Sequence[str]) -> builtins.list[GraphRecord]:
        """Return all records of these threads."""


class DuckDBSaver(BaseCheckpointSaver[str]):
    """Checkpointer over a LedgerWriter's journal and its workspace's ledger.

    A put is one journal append (durable against SIGKILL when it returns). A thread of another process is read from the
    ledger at its first use; `hydrate` reads many at once. One process at a time writes a thread.
    """

    def __init__(
        self,
        writer: LedgerWriter,
        *,
        ledger: StoredThreads | None = None,
        serde: SerializerProtocol | None = None,
        one_task_a_step: bool = False,
    ) -> None:
        """Store a graph's state through `writer`.

        Args:
            one_task_a_step: the graph has no parallel nodes. The checkpoint at the end of a step then holds the whole
                content of its writes, so writes are not stored; after a kill between write and checkpoint the node runs
                again. Errors, interrupts and resume values are stored in any case.
        """
        super().__init__(serde=serde)
        self._one_task_a_step = one_task_a_step
        self.writer = writer
        self.ledger: StoredThreads = ledger or Ledger(writer.workspace)
        self._memory = Memory()

    def hydrate(self, thread_ids: Collection[str] | None = None) -> set[str]:
        """Read threads (all when None) from the ledger in one query; return the ids found. Raises StoreError."""
        memory = self._memory
        with memory.lock:
            stored = self._stored()
            wanted = stored if thread_ids is None else stored & set(thread_ids)
            missing = sorted(wanted - memory.threads.keys())
            if missing:
                threads = {thread_id: Thread() for thread_id in missing}
                for record in self.ledger.read_graphs(missing):
                    threads[record.thread_id].take(record)
                memory.threads.update(threads)
            return set(wanted)

    def get_next_version(self, current: str | int | None, channel: None) -> str:
        """Return a version that sorts after `current`; two forks of a thread never make the same one."""
        number = int(str(current or 0).partition(".")[0])
        return f"{number + 1:016d}.{secrets.token_hex(4)}"

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint named by `config`, else the latest of its thread and namespace."""
        ns = config["configurable"].get("checkpoint_ns", "")
        with self._memory.lock:
            thread = self._thread(config["configurable"]["thread_id"])
            checkpoint_id = get_checkpoint_id(config)
            record = thread.checkpoints.get((ns, checkpoint_id)) if checkpoint_id else thread.latest(ns)
            return self._tuple(thread, record) if record else None

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Yield matching checkpoints, latest first; all threads when `config` is None."""
        wanted = config["configurable"] if config else {}
        bound = get_checkpoint_id(before) if before else None
        with self._memory.lock:
            if config:
                threads = [self._thread(wanted["thread_id"])]
            else:
                self.hydrate()
                threads = [*self._memory.threads.values()]
            matching = [
                (record, thread)
                for thread in threads
                for (ns, checkpoint_id), record in thread.checkpoints.items()
                if wanted.get("checkpoint_ns") in (None, ns)
                and wanted.get("checkpoint_id") in (None, "", checkpoint_id)
                and (bound is None or checkpoint_id < bound)
            ]
        matching.sort(key=lambda pair: (pair[0].checkpoint_id, pair[0].thread_id, pair[0].checkpoint_ns), reverse=True)
        num_found = 0
        for record, thread in matching:
            if limit is not None and num_found >= limit:
                return
            if filter:
                metadata = read_metadata(record, self.serde)
                if any(metadata.get(key) != value for key, value in filter.items()):
                    continue
            num_found += 1
            with self._memory.lock:
                found = self._tuple(thread, record)
            yield found

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and its new channel values. Raises StoreError when the disk cannot be written."""
        where = config["configurable"]
        thread_id, ns = where["thread_id"], where.get("checkpoint_ns", "")
        run_id = self.writer.run_id
        body = cast(dict[str, Any], checkpoint).copy()
        values = body.pop("channel_values")
        records: builtins.list[GraphRecord] = []
        for channel, version in new_versions.items():
            type_, blob = self.serde.dumps_typed(values[channel]) if channel in values else (EMPTY, b"")
            records.append(
                GraphBlobRecord(
                    run_id=run_id,
                    thread_id=thread_id,
                    checkpoint_ns=ns,
                    channel=channel,
                    version=json.dumps(version),
                    value_type=type_,
                    value_blob=blob,
                )
            )
        full_metadata = cast(dict[str, Any], get_checkpoint_metadata(config, metadata))
        checkpoint_type, checkpoint_blob = self.serde.dumps_typed(body)
        metadata_type, metadata_blob = self.serde.dumps_typed(full_metadata)
        records.append(
            GraphCheckpointRecord(
                run_id=run_id,
                thread_id=thread_id,
                checkpoint_ns=ns,
                checkpoint_id=checkpoint["id"],
                parent_checkpoint_id=get_checkpoint_id(config),
                step=full_metadata.get("step"),
                source=full_metadata.get("source"),
                graph_run_id=_text(full_metadata.get("run_id")),
                checkpoint_type=checkpoint_type,
                checkpoint_blob=checkpoint_blob,
                metadata_type=metadata_type,
                metadata_blob=metadata_blob,
                saved_at=time.time(),
            )
        )
        self._keep(thread_id, records)
        return _config(thread_id, ns, checkpoint["id"])

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store writes that the next checkpoint applies; for ordinary channels the first write of a task is kept."""
        if self._one_task_a_step and not any(channel in WRITES_IDX_MAP for channel, _ in writes):
            return
        where = config["configurable"]
        thread_id, ns, checkpoint_id = where["thread_id"], where.get("checkpoint_ns", ""), where["checkpoint_id"]
        with self._memory.lock:
            held = self._thread(thread_id).writes.get((ns, checkpoint_id), {})
            records: builtins.list[GraphRecord] = []
            for position, (channel, value) in enumerate(writes):
                idx = WRITES_IDX_MAP.get(channel, position)
                if idx >= 0 and (task_id, idx) in held:
                    continue
                type_, blob = self.serde.dumps_typed(value)
                records.append(
                    GraphWriteRecord(
                        run_id=self.writer.run_id,
                        thread_id=thread_id,
                        checkpoint_ns=ns,
                        checkpoint_id=checkpoint_id,
                        task_id=task_id,
                        idx=idx,
                        channel=channel,
                        value_type=type_,
                        value_blob=blob,
                        task_path=task_path,
                    )
                )
            self._keep(thread_id, records)

    def delete_thread(self, thread_id: str) -> None:
        """Remove all checkpoints and writes of a thread."""
        memory = self._memory
        with memory.lock:
            if thread_id in memory.threads or thread_id in self._stored():
                self.writer.append(GraphChange(thread_id=thread_id))
                memory.threads[thread_id] = Thread()

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove all checkpoints whose metadata names one of these (LangGraph) runs, with their writes."""
        wanted = {str(run_id) for run_id in run_ids}
        if not wanted:
            return
        with self._memory.lock:
            self.hydrate()
            for thread_id, thread in [*self._memory.threads.items()]:
                self._drop(
                    thread_id, {place for place, record in thread.checkpoints.items() if record.graph_run_id in wanted}
                )

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy every checkpoint, channel value and write of a thread, and so its whole chain of parents."""
        with self._memory.lock:
            source = self._thread(source_thread_id)
            self._keep(target_thread_id, [replace(record, thread_id=target_thread_id) for record in source.records()])

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Drop all but the latest checkpoint of each namespace (`keep_latest`), or everything (`delete`).

        Ancestors that a delta channel of the latest checkpoint is rebuilt from are kept.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"prune strategy {strategy!r} is neither 'keep_latest' nor 'delete'")
        with self._memory.lock:
            for thread_id in thread_ids:
                if strategy == "delete":
                    self.delete_thread(thread_id)
                    continue
                self._drop(thread_id, self._thread(thread_id).superseded(self.serde))

    def retain(self, thread_id: str, keep: Literal["all", "last"]) -> None:
        """Apply the retention rule to a finished thread: keep all (a failed task), or the last (a solved one).

        The thread leaves memory; when it is asked for again, it is read from the ledger.
        """
        if keep == "last":
            self.prune([thread_id])
        memory = self._memory
        with memory.lock:
            if memory.threads.pop(thread_id, None) is not None:
                self._stored().add(thread_id)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return `get_tuple`, which reads memory and does not block."""
        return self.get_tuple(config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yield the items of `list`."""
        for item in self.list(config, filter=filter, before=before, limit=limit):
            yield item

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Call `put`, one append of well under a millisecond."""
        return self.put(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Call `put_writes`."""
        self.put_writes(config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        """Call `delete_thread`."""
        self.delete_thread(thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Call `delete_for_runs`."""
        self.delete_for_runs(run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Call `copy_thread`."""
        self.copy_thread(source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Call `prune`."""
        self.prune(thread_ids, strategy=strategy)

    def _stored(self) -> set[str]:
        memory = self._memory
        if memory.stored is None:
            memory.stored = self.ledger.graph_threads()
        return memory.stored

    def _thread(self, thread_id: str) -> Thread:
        """Return a thread from memory, else from the ledger; a new empty one, not kept in memory, if neither has it."""
        self.hydrate([thread_id])
        return self._memory.threads.get(thread_id) or Thread()

    def _keep(self, thread_id: str, records: Sequence[GraphRecord]) -> None:
        if not records:
            return
        with self._memory.lock:
            self.hydrate([thread_id])
            self.writer.append(*records)  # journal first, so that memory never holds more than the disk
            thread = self._memory.threads.setdefault(thread_id, Thread())
            for record in records:
                thread.take(record)

    def _drop(self, thread_id: str, places: Collection[CheckpointPlace]) -> None:
        thread = self._memory.threads.get(thread_id)
        if places and thread is not None:
            change = thread.drop(places, thread_id, self.serde)
            self.writer.append(change)
            thread.apply(change)

    def _tuple(self, thread: Thread, record: GraphCheckpointRecord) -> CheckpointTuple:
        thread_id, ns, parent_id = record.thread_id, record.checkpoint_ns, record.parent_checkpoint_id
        body = read_body(record, self.serde)
        body["channel_values"] = thread.values(record, self.serde)
        return CheckpointTuple(
            config=_config(thread_id, ns, record.checkpoint_id),
            checkpoint=body,
            metadata=cast(CheckpointMetadata, read_metadata(record, self.serde)),
            parent_config=_config(thread_id, ns, parent_id) if parent_id else None,
            pending_writes=thread.pending_writes(record, self.serde),
        )


def _config(thread_id: str, ns: str, checkpoint_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
