"""Ingestion: complete journal lines become rows, exactly once.

The table `journals` of the same file records the position of each journal, and changes in the same transaction as the
rows, so a crash at any instant leaves both or neither.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.errors import StoreError
from gridloom.stores.connect import transaction
from gridloom.stores.graph_records import GraphChange
from gridloom.stores.journal import SUFFIX, JournalHeader, has_whole_line, is_live, read_header, read_lines
from gridloom.stores.records import RunRecord
from gridloom.stores.runs.run_clash import RunStarts
from gridloom.stores.schema import Table, arrow_types, merge, tables

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 32 << 20
"""Journal bytes per transaction, which bounds the memory."""

Key = tuple[Any, ...]


@dataclass(slots=True)
class IngestReport:
    """Counts of one ingestion, and its warnings, one line of text per loss."""

    num_records: int = 0
    num_bytes: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class JournalState:
    """Position of a journal, a row of the table `journals`."""

    name: str
    num_bytes: int = 0
    next_sequence: int = 0
    num_records: int = 0
    lost_lines: int = 0
    header: JournalHeader | None = None


@dataclass(slots=True)
class JournalRow:
    """Record to be inserted in a table."""

    columns: dict[str, Any]
    journal: str
    sequence: int


@dataclass(slots=True)
class Rejection:
    """Record that its table cannot hold, with its columns as written."""

    table: str
    reason: str
    row: JournalRow


@dataclass(slots=True)
class IngestBatch:
    """Changes of one transaction: rows by table and key, removals, journal states."""

    rows: dict[str, dict[Key, JournalRow]] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    states: dict[str, JournalState] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    num_bytes: int = 0
    num_records: int = 0

    def add(self, table: Table, row: JournalRow) -> None:
        """Add a record; the table's policy decides between two records with the same key."""
        key = tuple(row.columns.get(name) for name in table.key)
        if any(part is None or isinstance(part, (list, dict)) for part in key):
            self.rejected.append(Rejection(table.name, "its key is not complete", row))
            return
        held = self.rows.setdefault(table.name, {})
        before = held.get(key)
        if before is None:
            held[key] = row
        elif table.policy == "merge":
            row.columns = merge(before.columns, row.columns)
            held[key] = row
        elif table.policy == "replace" or (table.policy == "replace_negative_idx" and row.columns["idx"] < 0):
            held[key] = row

    def change(self, change: dict[str, Any]) -> None:
        """Remove graph rows of this batch, and register the removal of graph rows in the ledger."""
        self.changes.append(change)
        for name, width in (("graph_checkpoints", 3), ("graph_writes", 3), ("graph_blobs", 4)):
            held = self.rows.get(name)
            if not held:
                continue
            doomed = _doomed(change, width)
            if doomed is None:
                thread_id = change["thread_id"]
                self.rows[name] = {key: row for key, row in held.items() if key[0] != thread_id}
            elif doomed:
                self.rows[name] = {key: row for key, row in held.items() if key[:width] not in doomed}


def _doomed(change: dict[str, Any], width: int) -> set[Key] | None:
    """Return the prefixes (`width` columns) of the keys that a change removes; None for the whole thread."""
    if change.get("checkpoints") is None and change.get("blobs") is None:
        return None
    named = change.get("checkpoints" if width == 3 else "blobs") or []
    return {(change["thread_id"], *parts) for parts in named}


def read_states(connection: duckdb.DuckDBPyConnection) -> dict[str, JournalState]:
    """Return the position of each journal."""
    rows = connection.execute(
        "SELECT journal, num_bytes, next_sequence, num_records, lost_lines FROM journals"
    ).fetchall()
    return {row[0]: JournalState(*row) for row in rows}


def journal_files(folder: Path) -> list[Path]:
    """Return the journals of a workspace, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def is_pending(folder: Path, states: dict[str, JournalState]) -> bool:
    """Return whether a journal holds complete lines that are not in the ledger. Raises OSError."""
    for path in journal_files(folder):
        state = states.get(path.name)
        start = state.num_bytes if state else 0
        if path.stat().st_size > start and has_whole_line(path, start):
            return True
    return False


def is_spent(path: Path, states: dict[str, JournalState]) -> bool:
    """Return whether a journal is completely in the ledger, undamaged, and its writer dead. Raises OSError."""
    state = states.get(path.name)
    return (
        state is not None
        and state.num_bytes > 0  # an empty file may be one whose writer is about to lock it
        and state.lost_lines == 0
        and path.stat().st_size >= state.num_bytes
        and not is_live(path)
        and not has_whole_line(path, state.num_bytes)
    )


def ingest_journals(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Insert every new complete journal line into the ledger; `progress` receives bytes done and in total.

    Raises StoreError when a journal is of a newer gridloom or has another run of a known id, OSError when one cannot be
    read.
    """
    report = IngestReport()
    states, starts = read_states(connection), RunStarts.of(connection)
    files = [(path, states.get(path.name) or JournalState(path.name)) for path in journal_files(folder)]
    total = sum(max(0, path.stat().st_size - state.num_bytes) for path, state in files)
    batch = IngestBatch()
    for path, state in files:
        size = path.stat().st_size
        if size < state.num_bytes:
            report.warnings.append(
                f"journal {path} is shorter ({size} bytes) than what was read of it before ({state.num_bytes}); skipped"
            )
            continue
        while size > state.num_bytes and _read_into(batch, path, state, report, starts):
            if batch.num_bytes >= BATCH_BYTES:
                _apply(connection, batch, report)
                batch = IngestBatch()
                if progress:
                    progress(report.num_bytes, total)
    if batch.num_bytes:
        _apply(connection, batch, report)
    if progress:
        progress(report.num_bytes, total)
    return report


def _read_into(batch: IngestBatch, path: Path, state: JournalState, report: IngestReport, starts: RunStarts) -> bool:
    """Read up to a batch of lines from one journal; return False when no further complete line exists."""
    start = state.num_bytes
    damaged = 0
    lost_before = state.lost_lines
    for line in read_lines(path, start, BATCH_BYTES):
        state.num_bytes = line.end
        if line.payload is None:
            damaged += 1
            continue
        sequence = line.payload["s"]
        if sequence < state.next_sequence:
            continue
        # a damaged newline joins two lines: the gap in the sequence is the number of lost lines
        state.lost_lines += max(damaged, sequence - state.next_sequence)
        damaged = 0
        state.next_sequence = sequence + 1
        if "h" in line.payload:
            state.header = read_header(line.payload, path)
            continue
        for unit in line.payload["r"]:
            if unit["t"] == RunRecord.TABLE:
                starts.check(unit["r"], path)
            _take(batch, unit, path, sequence)
            state.num_records += 1
            batch.num_records += 1
    state.lost_lines += damaged
    state.next_sequence += damaged
    if state.lost_lines > lost_before:
        report.warnings.append(
            f"journal {path}: {state.lost_lines - lost_before} damaged line(s) between bytes {start} and "
            f"{state.num_bytes} could not be read; the records in them are lost"
        )
    batch.states[state.name] = state
    batch.num_bytes += state.num_bytes - start
    return state.num_bytes > start


def _take(batch: IngestBatch, unit: dict[str, Any], path: Path, sequence: int) -> None:
    name, columns = unit["t"], unit["r"]
    if name == GraphChange.TABLE:
        batch.change(columns)
        return
    table = tables().get(name)
    if table is None:
        raise _newer(path, f"table {name!r}")
    unknown = columns.keys() - {column.name for column in table.columns}
    if unknown:
        raise _newer(path, f"column {name}.{min(unknown)}")
    batch.add(table, JournalRow(columns, path.name, sequence))


def _newer(path: Path, what: str) -> StoreError:
    return StoreError(
        f"journal {path} holds {what}, which this gridloom does not know: a newer one wrote it",
        "upgrade gridloom: pip install --upgrade gridloom",
    )


def _apply(connection: duckdb.DuckDBPyConnection, batch: IngestBatch, report: IngestReport) -> None:
    with transaction(connection):
        for change in batch.changes:
            _remove(connection, change)
        for name, rows in batch.rows.items():
            if rows:
                _insert(connection, tables()[name], list(rows.values()), batch.rejected)
        _keep_rejected(connection, batch.rejected, report)
        _keep_states(connection, batch.states.values())
    report.num_records += batch.num_records
    report.num_bytes += batch.num_bytes


def _insert(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: list[JournalRow], rejected: list[Rejection]
) -> None:
    try:
        arrow = _to_arrow(table, rows)
    except (ValueError, TypeError, KeyError, OverflowError):
        rows = [row for row in rows if not _is_rejected(table, row, rejected)]
        arrow = _to_arrow(table, rows)
    connection.register("incoming", arrow)
    try:
        connection.execute(table.insert("incoming"))
    finally:
        connection.unregister("incoming")


def _to_arrow(table: Table, rows: list[JournalRow]) -> Any:
    import pyarrow as pa

    arrays = []
    for column in table.columns:
        name, convert = column.name, column.from_journal
        values = [None if (value := row.columns.get(name)) is None else convert(value) for row in rows]
        arrays.append(pa.array(values, arrow_types()[column.sql]))  # its errors are ValueErrors and TypeErrors
    return pa.Table.from_arrays(arrays, names=[column.name for column in table.columns])


def _is_rejected(table: Table, row: JournalRow, rejected: list[Rejection]) -> bool:
    try:
        _to_arrow(table, [row])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        rejected.append(Rejection(table.name, f"{type(error).__name__}: {error}", row))
        return True
    return False


def _remove(connection: duckdb.DuckDBPyConnection, change: dict[str, Any]) -> None:
    thread_id = change["thread_id"]
    if _doomed(change, 3) is None:
        for name in ("graph_checkpoints", "graph_writes", "graph_blobs"):
            connection.execute(f"DELETE FROM {name} WHERE thread_id = ?", [thread_id])
        return
    for name in ("graph_checkpoints", "graph_writes"):
        connection.executemany(
            f"DELETE FROM {name} WHERE thread_id = ? AND checkpoint_ns = ? AND checkpoint_id = ?",
            [[*key] for key in _doomed(change, 3) or ()],
        )
    connection.executemany(
        "DELETE FROM graph_blobs WHERE thread_id = ? AND checkpoint_ns = ? AND channel = ? AND version = ?",
        [[*key] for key in _doomed(change, 4) or ()],
    )


def _keep_rejected(connection: duckdb.DuckDBPyConnection, rejected: Iterable[Rejection], report: IngestReport) -> None:
    for item in rejected:
        report.warnings.append(
            f"journal {item.row.journal}, line {item.row.sequence + 1}: a record of {item.table} was set aside "
            f"in the table 'rejected': {item.reason}"
        )
        connection.execute(
            "INSERT INTO rejected VALUES (?, ?, ?, ?, ?, make_timestamp(?))",
            [item.row.journal, item.row.sequence, item.table, item.reason, json.dumps(item.row.columns), _now()],
        )


def _keep_states(connection: duckdb.DuckDBPyConnection, states: Iterable[JournalState]) -> None:
    for state in states:
        header = state.header
        connection.execute(
            """INSERT INTO journals VALUES (?, ?, ?, ?, make_timestamp(?), ?, ?, ?, ?, ?, make_timestamp(?))
            ON CONFLICT (journal) DO UPDATE SET num_bytes = excluded.num_bytes, next_sequence = excluded.next_sequence,
            num_records = excluded.num_records, lost_lines = excluded.lost_lines, ingested_at = excluded.ingested_at""",
            [
                state.name,
                header.run_id if header else None,
                header.host if header else None,
                header.pid if header else None,
                round(header.started_at * 1e6) if header else None,
                header.gridloom_version if header else None,
                state.num_bytes,
                state.next_sequence,
                state.num_records,
                state.lost_lines,
                _now(),
            ],
        )


def _now() -> int:
    return round(time.time() * 1e6)
