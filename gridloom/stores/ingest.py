"""Ingestion: complete journal lines become rows, exactly once.

The table `journals` of the same file records the position of each journal, and changes in the same transaction as the
rows, so a crash at any instant leaves both or neither.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gridloom.errors import StoreError
from gridloom.stores.connect import transaction
from gridloom.stores.ingestion.blocks import read_block
from gridloom.stores.insertion import IngestBatch, Rejection, UnknownName, insert_batch, rejected_text
from gridloom.stores.journal import (
    SUFFIX,
    JournalHeader,
    decode_line,
    has_whole_line,
    is_live,
    read_header,
    sequence_of,
    units_of,
    whole_lines,
)
from gridloom.stores.records import RunRecord
from gridloom.stores.runs.run_clash import RunStarts

if TYPE_CHECKING:
    import duckdb

BATCH_BYTES = 32 << 20
"""Journal bytes per transaction, which bounds the memory."""
FIRST_BATCH_BYTES = 4 << 20
"""Journal bytes of the first transaction, doubled for each later one: the database begins to write early."""
BLOCK_BYTES = 4 << 20
"""Journal bytes that are parsed at once."""
MAX_WARNINGS = 100


@dataclass(slots=True)
class IngestReport:
    """Counts of one ingestion, and its warnings, one line of text per loss."""

    num_records: int = 0
    num_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    is_complete: bool = True
    """False where ingestion stopped for another process that waits for the ledger."""
    num_more: int = 0

    def warn(self, text: str) -> None:
        """Add a warning; a hostile file has no end of them, so that the last one counts those above `MAX_WARNINGS`."""
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(text)
            return
        self.num_more += 1
        del self.warnings[MAX_WARNINGS:]
        self.warnings.append(f"and {self.num_more:,} more: see the tables 'rejected' and 'journals'")


@dataclass(slots=True)
class JournalState:
    """Position of a journal, a row of the table `journals`."""

    name: str
    num_bytes: int = 0
    next_sequence: int = 0
    num_records: int = 0
    lost_lines: int = 0
    header: JournalHeader | None = None


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
    *,
    report: IngestReport | None = None,
    is_wanted: Callable[[], bool] | None = None,
) -> IngestReport:
    """Insert every new complete journal line into the ledger; `progress` receives bytes done and in total.

    Args:
        report: counts of earlier calls of the same ingestion, which this one continues.
        is_wanted: whether another process waits for the ledger, asked after each transaction; if so, the call returns
            with `report.is_complete` False.

    Raises StoreError when a journal is of a newer gridloom or has another run of a known id, OSError when one cannot be
    read.
    """
    report = report or IngestReport()
    report.is_complete = True
    try:
        with _collector_off():
            _ingest(connection, folder, progress, report, is_wanted)
    except UnknownName as unknown:
        raise _newer(folder / unknown.place[0], unknown.what) from unknown
    return report


@contextmanager
def _collector_off() -> Iterator[None]:
    """Turn garbage collection off: a batch has hundreds of thousands of dicts and no cycle."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _ingest(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    progress: Callable[[int, int], None] | None,
    report: IngestReport,
    is_wanted: Callable[[], bool] | None,
) -> None:
    states, starts = read_states(connection), RunStarts.of(connection)
    files = [(path, states.get(path.name) or JournalState(path.name)) for path in journal_files(folder)]
    total = report.num_bytes + sum(max(0, path.stat().st_size - state.num_bytes) for path, state in files)
    if progress:
        progress(report.num_bytes, total)
    for read in _read_ahead(_batches(files, starts)):
        for text in read.warnings:
            report.warn(text)
        if read.batch.num_bytes:
            _apply(connection, read.batch, read.states, report)
            if progress:
                progress(report.num_bytes, total)
        if not read.is_last and is_wanted is not None and is_wanted():
            report.is_complete = False
            return


@dataclass(slots=True)
class _ReadBatch:
    """Batch, the positions behind its lines by journal, and what was lost in them."""

    batch: IngestBatch = field(default_factory=IngestBatch)
    states: dict[str, JournalState] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    is_last: bool = False


def _batches(files: Sequence[tuple[Path, JournalState]], starts: RunStarts) -> Iterator[_ReadBatch]:
    """Yield the new lines of all journals, in batches of up to `BATCH_BYTES` and a last one, which may be empty."""
    read, enough = _ReadBatch(), min(FIRST_BATCH_BYTES, BATCH_BYTES)
    for path, state in files:
        size = path.stat().st_size
        if size < state.num_bytes:
            read.warnings.append(
                f"journal {path} is shorter ({size} bytes) than what was read of it before ({state.num_bytes}); skipped"
            )
            continue
        while size > state.num_bytes and _read_into(read.batch, path, state, read.warnings, starts):
            # the next batch moves the state on while this one is written
            read.states[state.name] = replace(state)
            if read.batch.num_bytes >= enough:
                yield read
                read, enough = _ReadBatch(), min(2 * enough, BATCH_BYTES)
    read.is_last = True
    yield read


def _read_ahead(batches: Iterator[_ReadBatch]) -> Iterator[_ReadBatch]:
    """Yield batches; the next is read in a thread while the caller writes one, since DuckDB works without the GIL."""
    first = next(batches)
    if first.is_last:  # a thread costs more than a small ingestion
        yield first
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "gridloom-read-journals") as pool:
        following = pool.submit(next, batches)
        yield first
        while not (read := following.result()).is_last:
            following = pool.submit(next, batches)
            yield read
    yield read


def _read_into(batch: IngestBatch, path: Path, state: JournalState, warnings: list[str], starts: RunStarts) -> bool:
    """Read a block of lines from one journal; return False when no further complete line exists."""
    lines = whole_lines(path, state.num_bytes, min(BLOCK_BYTES, BATCH_BYTES))
    if not lines:
        return False
    num_bytes = sum(map(len, lines))
    block = read_block(lines, state.next_sequence)
    if block is None:
        _read_lines_into(batch, lines, path, state, warnings, starts)
        batch.settle()
    else:
        for table, columns, _ in block.others:
            if table == RunRecord.TABLE:
                starts.check(columns, path)
        batch.add_block(block, path.name)
        state.next_sequence += len(lines)
        state.num_records += block.num_records
        state.num_bytes += num_bytes
    batch.num_bytes += num_bytes
    return True


def _read_lines_into(
    batch: IngestBatch, lines: list[bytes], path: Path, state: JournalState, warnings: list[str], starts: RunStarts
) -> None:
    """Read lines one by one, of which some are damaged or hold values that no table has."""
    start = state.num_bytes
    damaged = 0
    lost_before = state.lost_lines
    for line in lines:
        state.num_bytes += len(line)
        payload = decode_line(line[:-1])
        sequence = None if payload is None else sequence_of(payload, state.num_bytes)
        if payload is None or sequence is None:
            damaged += 1
            continue
        header = read_header(payload, path) if "h" in payload else None
        units = units_of(payload)
        if header is None and units is None:
            damaged += 1
            continue
        if sequence < state.next_sequence:
            continue
        # a damaged newline joins two lines: the gap in the sequence is the number of lost lines
        state.lost_lines += max(damaged, sequence - state.next_sequence)
        damaged = 0
        state.next_sequence = sequence + 1
        if header is not None:
            state.header = header
        elif units is not None:
            if RunRecord.TABLE in units[0]:
                for table, columns in zip(*units, strict=True):
                    if table == RunRecord.TABLE:
                        starts.check(columns, path)
            batch.add(*units, (path.name, sequence))
            state.num_records += len(units[0])
    state.lost_lines += damaged
    state.next_sequence += damaged
    if state.lost_lines > lost_before:
        warnings.append(
            f"journal {path}: {state.lost_lines - lost_before} damaged line(s) between bytes {start} and "
            f"{state.num_bytes} could not be read; the records in them are lost"
        )


def _newer(path: Path, what: str) -> StoreError:
    return StoreError(
        f"journal {path} holds {what}, which this gridloom does not know: a newer one wrote it",
        f"upgrade gridloom (pip install --upgrade gridloom), or move the file out of {path.parent}",
    )


def _apply(
    connection: duckdb.DuckDBPyConnection, batch: IngestBatch, states: dict[str, JournalState], report: IngestReport
) -> None:
    import duckdb

    held_before = [*batch.rejected]
    try:
        _write(connection, batch, states)
    except duckdb.OutOfMemoryException:
        # one very large line, or the indexes of a ledger of an older gridloom, which must be in memory
        connection.execute("RESET memory_limit")
        batch.rejected = held_before
        _write(connection, batch, states)
    for item in batch.rejected:
        journal, sequence = item.row.place
        report.warn(
            f"journal {journal}, line {sequence + 1}: a record of {item.table} was set aside in the table 'rejected': "
            f"{item.reason}"
        )
    report.num_records += batch.num_records
    report.num_bytes += batch.num_bytes


def _write(connection: duckdb.DuckDBPyConnection, batch: IngestBatch, states: dict[str, JournalState]) -> None:
    with transaction(connection):
        insert_batch(connection, batch)
        _keep_rejected(connection, batch.rejected)
        _keep_states(connection, states.values())


def _keep_rejected(connection: duckdb.DuckDBPyConnection, rejected: Iterable[Rejection]) -> None:
    rows = [[*one.row.place, one.table, one.reason, rejected_text(one.row.columns), _now()] for one in rejected]
    if rows:
        connection.executemany("INSERT INTO rejected VALUES (?, ?, ?, ?, ?, make_timestamp(?))", rows)


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
