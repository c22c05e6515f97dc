"""The loop's records beside the plain data that LangGraph carries, so that what was just made is not validated again.

State is plain data because a checkpoint must restore without code. Within a process the next node gets the very object
that the node before returned; only what comes from a checkpoint is another object, and validated.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from pydantic import BaseModel

from gridloom.solvers.types import FinishedAttempt, LoopState

RecordType = TypeVar("RecordType", bound=BaseModel)


class Known:
    """The newest record of each kind, and the history, of one task."""

    def __init__(self) -> None:
        self._records: dict[type[BaseModel], tuple[dict[str, Any], BaseModel]] = {}
        self._entries: list[tuple[dict[str, Any], FinishedAttempt]] = []

    def dump(self, record: BaseModel) -> dict[str, Any]:
        """Return a record as plain data, and remember whose data it is."""
        data = record.model_dump()
        self._records[type(record)] = (data, record)
        return data

    def record(self, kind: type[RecordType], data: dict[str, Any]) -> RecordType:
        """Return the record of plain data."""
        known = self._records.get(kind)
        if known is None or known[0] is not data:
            known = self._records[kind] = (data, kind.model_validate(data))
        return cast(RecordType, known[1])

    def dump_entry(self, entry: FinishedAttempt) -> dict[str, Any]:
        """Return an attempt of the history as plain data, and remember it as the newest."""
        data = entry.model_dump()
        self._entries.append((data, entry))
        return data

    def history(self, state: LoopState) -> tuple[FinishedAttempt, ...]:
        """Return the attempts made, in order."""
        data = state.get("history", [])
        kept = self._entries[: len(data)]
        if len(kept) < len(data) or any(known[0] is not one for known, one in zip(kept, data, strict=True)):
            kept = [(one, FinishedAttempt.model_validate(one)) for one in data]
        self._entries = kept
        return tuple(entry for _, entry in kept)
