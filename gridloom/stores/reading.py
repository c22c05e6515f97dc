"""Rows back into records: the same fields and types that were appended."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gridloom.stores.answers import read_answer
from gridloom.stores.attempt import Attempt, Key, key_of
from gridloom.stores.journal import is_live
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    Record,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
    as_dict,
)
from gridloom.stores.runs.names import located
from gridloom.stores.schema import tables, to_json

if TYPE_CHECKING:
    import duckdb

R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class AttemptPage:
    """First attempts of a list: rows of v_attempts, and the number of attempts in the whole list."""

    rows: list[dict[str, Any]]
    total: int


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
    # not as a relation, which is planned three times: that is most of the time of a few rows
    rows = connection.execute(
        f"SELECT {selected} FROM {table.name} WHERE {condition or 'true'} ORDER BY {', '.join(table.key)}",
        list(where.values()),
    ).fetchall()
    names = [column.name for column in table.columns]
    parsed = {c.name for c in table.columns if c.from_journal is to_json}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    return [
        kind(
            **{
                name: json.loads(value) if name in parsed and value is not None else value
                for name, value in zip(names, row, strict=True)
                if value is not None or name not in optional
            }
        )
        for row in rows
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


def read_attempt(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str | None = None, stage: str | None = None
) -> dict[str, Any]:
    """Return all records of the attempt that a name means, as `Ledger.attempt`. Raises ReplayError."""
    found, stage, task_id, attempt, fork, attempt_id, place, _, _, solved = located(connection, name, run_id, stage)
    task = {"run_id": found, "stage": stage, "task_id": task_id}
    where = task | {"attempt": attempt, "fork": fork}
    (whole,) = read_attempts(connection, where)
    tasks = read_records(connection, TaskRecord, task)
    shown = {"name": f"{attempt_id}@{place}", "solved": solved, "task": as_dict(tasks[0]) if tasks else None}
    return as_dict(whole.row) | shown | whole.parts()


def read_page(
    connection: duckdb.DuckDBPyConnection,
    run_id: str | None,
    stage: str | None,
    task_id: str | None,
    limit: int | None,
    *,
    failed: bool = False,
) -> AttemptPage:
    """Return the first attempts of a run, or of one stage or task of it, and the number of all.

    Args:
        failed: only those that are wrong by the score, or not accepted where no score decides.
    """
    given = {"run": run_id, "stage": stage, "task": task_id}
    wanted = "run_id = $run AND ($stage IS NULL OR stage = $stage) AND ($task IS NULL OR task_id = $task)"
    counted = f"SELECT coalesce(sum(all_attempts), 0)::BIGINT FROM task_figures WHERE {wanted}"
    if failed:
        wanted += " AND NOT coalesce(solved, verdict = 'accepted')"
        counted = f"SELECT count(*) FROM v_attempts WHERE {wanted}"
    ((total,),) = connection.execute(counted, given).fetchall()
    first = f"LIMIT {int(limit)}" if limit is not None else ""  # as a number, which lets DuckDB read only these rows
    answer = read_answer(
        connection,
        f"FROM v_attempts WHERE {wanted} ORDER BY run_id, stage, task_id, attempt, fork {first}",
        given,
    )
    return AttemptPage([*answer.dicts()], total)


def declare_dead_runs(connection: duckdb.DuckDBPyConnection, journal_dir: Path) -> None:
    """Register for the view v_runs the started runs without a living writer on this machine."""
    open_runs = connection.execute(
        "SELECT r.run_id, r.host, r.pid, list(j.journal) FROM runs r LEFT JOIN journals j USING (run_id) "
        "WHERE r.status = 'started' GROUP BY ALL"
    ).fetchall()
    dead = [
        run_id
        for run_id, host, pid, journals in open_runs
        if host == socket.gethostname() and not _is_alive(journal_dir, pid, [name for name in journals if name])
    ]
    connection.execute("SET VARIABLE dead_runs = ?", [dead])


def _is_alive(journal_dir: Path, pid: int | None, journals: list[str]) -> bool:
    present = [path for name in journals if (path := journal_dir / name).exists()]
    if present:
        return any(is_live(path) for path in present)
    return pid is not None and _is_process(pid)


def _is_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another user's
    return True
