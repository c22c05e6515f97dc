"""Removal of runs from the ledger, with the journals that they were ingested from."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridloom.errors import StoreError
from gridloom.stores.connect import database_errors, ledger_lock, open_database
from gridloom.stores.files.disk import storage
from gridloom.stores.ingest import journal_files
from gridloom.stores.journal import is_live, read_header, read_lines
from gridloom.stores.ledger import READ_TIMEOUT_S, Ledger
from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

KEPT = ("artifacts", "journals", "rejected")
"""Tables whose rows outlive the run that wrote them: an artifact is still there, a journal is read once."""


@dataclass(frozen=True, slots=True)
class RemovedRun:
    """A run with the number of its rows by table, and its journals."""

    run_id: str
    rows: dict[str, int]
    journals: tuple[Path, ...]
    num_bytes: int
    """Size of the journals, bytes."""


def remove_runs(workspace: Workspace, run_ids: list[str], *, dry_run: bool = False) -> list[RemovedRun]:
    """Remove all rows of runs, then their journals; artifacts stay. Returns what was, or would be, removed.

    Rows go in one transaction before any journal: killed in between, the next call for the run removes the journals.

    Raises:
        StoreError: one of the runs is going on in a process; nothing is removed then.
    """
    ledger = Ledger(workspace)
    ledger.ingest()
    path = workspace.ledger_path
    journals = {run_id: _journals(workspace, run_id) for run_id in run_ids}
    for run_id, files in journals.items():
        if any(is_live(file) for file in files):
            raise StoreError(f"run {run_id} is going on in another process", "stop it first: Ctrl-C, or kill its pid")
    with (
        storage("remove a run", workspace.root),
        database_errors("remove a run from", path),
        ledger_lock(workspace.lock_path, exclusive=True, timeout_s=READ_TIMEOUT_S),
        closing(open_database(path, read_only=dry_run, timeout_s=READ_TIMEOUT_S)) as connection,
    ):
        tables = _tables_of_runs(connection)
        found = [
            RemovedRun(
                run_id,
                {table: count for table in tables if (count := _count(connection, table, run_id))},
                tuple(journals[run_id]),
                sum(file.stat().st_size for file in journals[run_id]),
            )
            for run_id in run_ids
        ]
        if dry_run:
            return found
        connection.execute("BEGIN")
        for one in found:
            for table in one.rows:
                connection.execute(f'DELETE FROM "{table}" WHERE run_id = ?', [one.run_id])
        connection.execute("COMMIT")
        for one in found:
            for file in one.journals:
                file.unlink(missing_ok=True)
    return found


def _tables_of_runs(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute(
        "SELECT c.table_name FROM information_schema.columns c JOIN information_schema.tables t USING (table_name) "
        "WHERE c.column_name = 'run_id' AND t.table_type = 'BASE TABLE' ORDER BY c.table_name"
    ).fetchall()
    return [name for (name,) in rows if name not in KEPT]


def _count(connection: duckdb.DuckDBPyConnection, table: str, run_id: str) -> int:
    ((count,),) = connection.execute(f'SELECT count(*) FROM "{table}" WHERE run_id = ?', [run_id]).fetchall()
    return int(count)


def _journals(workspace: Workspace, run_id: str) -> list[Path]:
    """Return the journals whose header names the run."""
    found = []
    with storage("read journals", workspace.journal_dir):
        for path in journal_files(workspace.journal_dir):
            first = next(iter(read_lines(path, 0, 1)), None)
            header = read_header(first.payload, path) if first is not None and first.payload is not None else None
            if header is not None and header.run_id == run_id:
                found.append(path)
    return found
