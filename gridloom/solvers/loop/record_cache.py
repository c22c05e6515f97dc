"""Cache of the loop's records, keyed by the plain data in LangGraph's state, so that new records are not revalidated.

State is plain data because a checkpoint must restore without code. Within a process each node receives the same object
that the previous node returned; data restored from a checkpoint is another object and is validated.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from pydantic import BaseModel

from gridloom.solvers.types import FinishedAttempt, LoopState

RecordType = TypeVar("RecordType", bound=BaseModel)


class RecordCache:
    """Newest record of each type, and the history, of one task."""

    def __init__(self) -> None:
        self._records: dict[type[BaseModel], tuple[dict[str, Any], BaseModel]] = {}
        self._entries: list[tuple[dict[str, Any], FinishedAttempt]] = []

    def dump(self, record: BaseModel) -> dict[str, Any]:
        """Return a record as plain data, and cache the record under that data."""
        data = record.model_dump()
        self._records[type(record)] = (data, record)
        return data

    def record(self, kind: type[RecordType], data: dict[str, Any]) -> RecordType:
        """Return the record of the plain data: the cached one, else one validated from the data."""
        cached = self._records.get(kind)
        if cached is None or cached[0] is not data:
            cached = self._records[kind] = (data, kind.model_validate(data))
        return cast(RecordType, cached[1])

    def dump_entry(self, entry: FinishedAttempt) -> dict[str, Any]:
        """Return an attempt as plain data, and append the attempt to the cached history."""
        data = entry.model_dump()
        self._entries.append((data, entry))
        return data

    def history(self, state: LoopState) -> tuple[FinishedAttempt, ...]:
        """Return the finished attempts of the state, in order."""
        data = state.get("history", [])
        cached = self._entries[: len(data)]
        if len(cached) < len(data) or any(entry[0] is not one for entry, one in zip(cached, data, strict=True)):
            cached = [(one, FinishedAttempt.model_validate(one)) for one in data]
        self._entries = cached
        return tuple(entry for _, entry in cached)
