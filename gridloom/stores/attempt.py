"""Complete attempt: its row of the ledger and its rows of other tables.

`AttemptRecord` is the only place that lists an attempt's columns. The functions here exclude columns by name, so that a
new column is part of the ledger, its view, attempts.jsonl and a replay as soon as it is declared.
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
        *("run_id", "stage", "fork", "parent", "stage_key", "checkpoint_key"),  # equal for the whole artifact
        *("latent", "prefix"),  # bytes
        *("started_at", "ended_at", "timings"),  # clock values would make the artifact depend on the run
    }
)
"""Columns of an attempt that attempts.jsonl lacks."""
LINE_LEAVES_OUT_OF_CALL = frozenset(
    {
        *(*KEY, "prefix_tokens", "dropped_demos", "dropped_attempts", "over_budget", "temperature", "seed"),
        *("duration_s", "num_calls", "finish_reason", "reasoning_content"),
    }
)
"""Columns of the LLaMA's call that attempts.jsonl lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Attempt with all its records, as it is recorded, shown, published and replayed."""

    row: AttemptRecord
    candidates: tuple[CandidateRecord, ...] = ()
    """Candidates by test input and rank."""
    verdicts: tuple[VerdictRecord, ...] = ()
    """One record per verifier: in the verifiers' order in a new attempt, by name in one read from the ledger."""
    llm_call: LlmCallRecord | None = None
    """Call of the LLaMA; None for a TRM alone, and for a fork that keeps the recorded text."""
    trm_steps: tuple[TrmStepRecord, ...] = ()

    @property
    def key(self) -> Key:
        """Values of the columns `KEY`."""
        return key_of(self.row)

    @property
    def seconds(self) -> float:
        """Sum of the nodes' durations, s; the time from start to end also includes waits for other tasks."""
        return float(sum(self.row.timings.values()))

    def records(self) -> list[Record]:
        """Return all records in the order in which they are appended, the row of `attempts` first."""
        calls = () if self.llm_call is None else (self.llm_call,)
        return [self.row, *calls, *self.candidates, *self.verdicts, *self.trm_steps]

    def parts(self) -> dict[str, Any]:
        """Return the records of other tables as plain data: lists of dicts; for the LLaMA's call a dict or None."""
        return {
            "candidates": [as_dict(record) for record in self.candidates],
            "verdicts": [as_dict(record) for record in self.verdicts],
            "llm_call": as_dict(self.llm_call) if self.llm_call else None,
            "trm_steps": [as_dict(record) for record in self.trm_steps],
        }

    def line(self) -> dict[str, Any]:
        """Return the attempt's line of attempts.jsonl; the LLaMA's columns are None where no LLaMA ran."""
        call = without(self.llm_call, LINE_LEAVES_OUT_OF_CALL) if self.llm_call else {}
        return {
            **without(self.row, LINE_LEAVES_OUT),
            **dict.fromkeys(column_names(LlmCallRecord, LINE_LEAVES_OUT_OF_CALL)),
            **call,
            "candidates": [without(record, frozenset(KEY)) for record in self.candidates],
            "signals": {record.verifier: without(record, frozenset({*KEY, "verifier"})) for record in self.verdicts},
        }


def key_of(record: Record) -> Key:
    """Return the key of the attempt that a record belongs to."""
    return tuple(getattr(record, name) for name in KEY)


def column_names(kind: type[Record], leaves_out: Set[str] = frozenset()) -> tuple[str, ...]:
    """Return the columns of a table except `leaves_out`, in order."""
    return tuple(one.name for one in fields(kind) if one.name not in leaves_out)


def without(record: Record, leaves_out: Set[str]) -> dict[str, Any]:
    """Return a record's columns except `leaves_out`."""
    return {name: getattr(record, name) for name in column_names(type(record), leaves_out)}


@functools.cache
def columns_of_node(node: str) -> tuple[str, ...]:
    """Return the attempt's columns that equal fields of the same name in the result of a node of the loop."""
    return tuple(one.name for one in fields(AttemptRecord) if one.metadata.get("node") == node)


def same_named(kind: type[Record], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that have the name of a column of the table."""
    return {name: values[name] for name in column_names(kind) if name in values}
