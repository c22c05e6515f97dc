"""One attempt whole: its row of the ledger and the rows of other tables that belong to it.

`AttemptRecord` is the only place that lists an attempt's columns. What is made from them here takes every column but
those that it names, so that a new column reaches the ledger, its view, attempts.jsonl and a replay by being declared.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Set
from dataclasses import dataclass, fields
from typing import Any

from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    Record,
    TrmStepRecord,
    VerdictRecord,
    as_dict,
)

Key = tuple[Any, ...]
"""(run_id, stage, task_id, attempt, fork), the first columns of every record of an attempt."""
KEY = AttemptRecord.KEY
LINE_LEAVES_OUT = frozenset(
    {
        *("run_id", "stage", "fork", "parent", "stage_key", "checkpoint_key"),  # those of the artifact
        *("latent", "prefix"),  # bytes
        *("started_at", "ended_at", "timings"),  # clock values, of which the artifact is free
    }
)
"""Columns of an attempt that attempts.jsonl has not."""
LINE_LEAVES_OUT_OF_CALL = frozenset(
    {*KEY, "prefix_tokens", "dropped_demos", "dropped_attempts", "over_budget", "temperature", "seed", "duration_s"}
)
"""Columns of the LLaMA's call that attempts.jsonl has not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """An attempt as it is recorded, shown, published and replayed."""

    row: AttemptRecord
    candidates: tuple[CandidateRecord, ...] = ()
    """By test input and rank."""
    verdicts: tuple[VerdictRecord, ...] = ()
    """One a verifier: in the verifiers' order where the loop made the attempt, by name where it was read."""
    llm_call: LlmCallRecord | None = None
    """None for a TRM alone, and for a fork that keeps the recorded text."""
    trm_steps: tuple[TrmStepRecord, ...] = ()

    @property
    def key(self) -> Key:
        """The values of `KEY`."""
        return key_of(self.row)

    @property
    def seconds(self) -> float:
        """The attempt's own work: what lies between its start and end is also waiting for other tasks in flight."""
        return float(sum(self.row.timings.values()))

    def records(self) -> list[Record]:
        """Return the rows in the order in which they are appended, the attempt's own first."""
        calls = () if self.llm_call is None else (self.llm_call,)
        return [self.row, *calls, *self.candidates, *self.verdicts, *self.trm_steps]

    def parts(self) -> dict[str, Any]:
        """Return what belongs to the row, as plain data: lists of dicts, and of the LLaMA's call a dict or None."""
        return {
            "candidates": [as_dict(record) for record in self.candidates],
            "verdicts": [as_dict(record) for record in self.verdicts],
            "llm_call": as_dict(self.llm_call) if self.llm_call else None,
            "trm_steps": [as_dict(record) for record in self.trm_steps],
        }

    def line(self) -> dict[str, Any]:
        """Return the attempt's line of attempts.jsonl; the LLaMA's columns are None where it was not asked."""
        call = without(self.llm_call, LINE_LEAVES_OUT_OF_CALL) if self.llm_call else {}
        return {
            **without(self.row, LINE_LEAVES_OUT),
            **dict.fromkeys(column_names(LlmCallRecord, LINE_LEAVES_OUT_OF_CALL)),
            **call,
            "candidates": [without(record, frozenset(KEY)) for record in self.candidates],
            "signals": {record.verifier: without(record, frozenset({*KEY, "verifier"})) for record in self.verdicts},
        }


def key_of(record: Record) -> Key:
    """Return which attempt a record belongs to."""
    return tuple(getattr(record, name) for name in KEY)


def column_names(kind: type[Record], leaves_out: Set[str] = frozenset()) -> tuple[str, ...]:
    """Return the columns of a table but those named, in order."""
    return tuple(one.name for one in fields(kind) if one.name not in leaves_out)


def without(record: Record, leaves_out: Set[str]) -> dict[str, Any]:
    """Return a record's columns but those named."""
    return {name: getattr(record, name) for name in column_names(type(record), leaves_out)}


@functools.cache
def columns_of_node(node: str) -> tuple[str, ...]:
    """Return the attempt's columns that a node of the loop gives under the names that they have in its result."""
    return tuple(one.name for one in fields(AttemptRecord) if one.metadata.get("node") == node)


def same_named(kind: type[Record], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that have the name of a column of the table."""
    return {name: values[name] for name in column_names(kind) if name in values}
