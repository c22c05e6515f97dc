"""Removal of runs from the ledger, with the journals that they were ingested from.

The transaction in the ledger decides. Journals are set aside under the suffix `.removed`, which no ingestion reads,
before it, and deleted after it. What a killed removal set aside is settled by the next one and by `gridloom gc`: a
journal whose run is in the ledger still gets its name back, any other is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridloom.errors import StoreError
from gridloom.plain_names import why_not_plain
from gridloom.stores.connect import database_errors, ledger_lock, open_database
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import move
from gridloom.stores.ingest import journal_files
from gridloom.stores.journal import is_live, read_header, read_lines
from gridloom.stores.ledger import READ_TIMEOUT_S, Ledger
from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

ASIDE = ".removed"
"""Suffix of the journals of a run that is being removed."""
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
    """Remove all rows of runs and their journals; artifacts stay. Returns what was, or would be, removed.

    Killed at any instant it has removed a run wholly, or the next command has it as before: see the module.

    Raises:
        StoreError: one of the runs is going on in a process; nothing is removed then.
    """
    if not dry_run:
        settle_removals(workspace)
    ledger = Ledger(workspace)
    ledger.ingest()
    path = workspace.ledger_path
    with (
        _not_running(workspace, () if dry_run else run_ids),
        storage("remove a run", workspace.root),
        database_errors("remove a run from", path),
        ledger_lock(workspace.lock_path, exclusive=True, timeout_s=READ_TIMEOUT_S),
        closing(open_database(path, read_only=dry_run, timeout_s=READ_TIMEOUT_S)) as connection,
    ):
        journals = {run_id: _journals(workspace, run_id) for run_id in run_ids}
        for run_id, files in journals.items():
            if any(is_live(file) for file in files):
                raise _going_on(run_id)
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
        aside = [file.with_name(f"{file.name}{ASIDE}") for one in found for file in one.journals]
        try:
            for file in aside:
                move(file.with_suffix(""), file)
            connection.execute("COMMIT")
        except Exception:
            for file in aside:
                if file.exists():
                    move(file, file.with_suffix(""))
            raise
        for file in aside:
            file.unlink()
    return found


def settle_removals(workspace: Workspace) -> None:
    """Finish or undo what a killed removal left: see the module. Raises StoreError."""
    folder, path = workspace.journal_dir, workspace.ledger_path
    with storage("look for removed journals", folder):
        if not folder.is_dir() or not any(folder.glob(f"*{ASIDE}")):
            return
    with (
        storage("remove journals", folder),
        database_errors("read", path),
        ledger_lock(workspace.lock_path, exclusive=True, timeout_s=READ_TIMEOUT_S),
    ):
        for file in sorted(folder.glob(f"*{ASIDE}")):
            if _is_recorded(path, _run_of(file)):
                move(file, file.with_suffix(""))
            else:
                file.unlink()


def _is_recorded(ledger: Path, run_id: str | None) -> bool:
    """Return whether the ledger has rows of a run; a ledger that is lost has none, and its run was to be removed."""
    if run_id is None or not ledger.exists():
        return False
    with closing(open_database(ledger, read_only=True, timeout_s=READ_TIMEOUT_S)) as connection:
        return any(_count(connection, table, run_id) for table in _tables_of_runs(connection))


@contextmanager
def _not_running(workspace: Workspace, run_ids: Sequence[str]) -> Iterator[None]:
    """Hold the locks of runs, so that none of them begins. Raises StoreError where one is going on."""
    held: list[int] = []
    folder = workspace.root / "locks"
    try:
        with storage("take a lock", folder):
            # a journal from elsewhere can name what no process here can run
            for run_id in (one for one in run_ids if not why_not_plain(one)):
                workspace.ensure(folder)
                held.append(os.open(folder / f"run-{run_id}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))
                if not locks.take(held[-1]):
                    raise _going_on(run_id)
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)


def _going_on(run_id: str) -> StoreError:
    return StoreError(f"run {run_id} is going on in another process", "stop it first: Ctrl-C, or kill its pid")


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
    with storage("read journals", workspace.journal_dir):
        return [path for path in journal_files(workspace.journal_dir) if _run_of(path) == run_id]


def _run_of(journal: Path) -> str | None:
    """Return the run that the header of a journal names; None where it has no header."""
    first = next(iter(read_lines(journal, 0, 1)), None)
    header = read_header(first.payload, journal) if first is not None and first.payload is not None else None
    return None if header is None else header.run_id
