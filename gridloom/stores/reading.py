"""Rows back into records: the same fields and types that were appended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar

from gridloom.stores.attempt import Attempt, Key, key_of
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    Record,
    TrmStepRecord,
    VerdictRecord,
)
from gridloom.stores.schema import tables, to_json

if TYPE_CHECKING:
    import duckdb

R = TypeVar("R", bound=Record)


def read_records(connection: duckdb.DuckDBPyConnection, kind: type[R], where: Mapping[str, Any]) -> list[R]:
    """Return the records of a table whose columns equal `where` (a list: any of its values), in key order.

    Columns that were never set come back as the record's default, None where it has none.
    """
    table = tables()[kind.TABLE]
    selected = ", ".join(
        f'epoch_us("{c.name}") / 1e6 AS "{c.name}"' if c.sql == "TIMESTAMP" else f'"{c.name}"' for c in table.columns
    )
    condition = " AND ".join(
        f'"{name}" IN (SELECT unnest(?))' if isinstance(value, list) else f'"{name}" = ?'
        for name, value in where.items()
    )
    relation = connection.sql(
        f"SELECT {selected} FROM {table.name} WHERE {condition or 'true'} ORDER BY {', '.join(table.key)}",
        params=list(where.values()),
    )
    parsed = {c.name for c in table.columns if c.from_journal is to_json}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    return [
        kind(
            **{
                name: json.loads(value) if name in parsed and value is not None else value
                for name, value in row.items()
                if value is not None or name not in optional
            }
        )
        for row in relation.to_arrow_table().to_pylist()
    ]


def read_attempts(connection: duckdb.DuckDBPyConnection, where: Mapping[str, Any]) -> list[Attempt]:
    """Return the attempts whose key columns equal `where`, each with all that belongs to it, in key order."""

    def by_attempt(kind: type[R]) -> dict[Key, list[R]]:
        found: dict[Key, list[R]] = {}
        for record in read_records(connection, kind, where):
            found.setdefault(key_of(record), []).append(record)
        return found

    candidates, verdicts = by_attempt(CandidateRecord), by_attempt(VerdictRecord)
    calls, steps = by_attempt(LlmCallRecord), by_attempt(TrmStepRecord)
    return [
        Attempt(
            row=row,
            candidates=tuple(candidates.get(key, ())),
            verdicts=tuple(verdicts.get(key, ())),
            llm_call=next(iter(calls.get(key, ())), None),
            trm_steps=tuple(steps.get(key, ())),
        )
        for row in read_records(connection, AttemptRecord, where)
        for key in [key_of(row)]
    ]
