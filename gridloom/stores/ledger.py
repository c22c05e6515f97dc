"""The ledger: `LedgerWriter` appends records to a journal, `Ledger` ingests journals into DuckDB and answers SQL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from gridloom.errors import StoreError
from gridloom.stores.answers import Answer, read_answer, read_table
from gridloom.stores.attempt import KEY, Attempt
from gridloom.stores.connect import HeldLock, LedgerBusy, database_errors, encodable, ledger_lock, open_database
from gridloom.stores.files.copy_of_open_file import copy_unchanged
from gridloom.stores.files.disk import is_writable, storage
from gridloom.stores.files.long_work import shown_when_long
from gridloom.stores.graph_records import (
    GraphBlobRecord,
    GraphCheckpointRecord,
    GraphRecord,
    GraphWriteRecord,
)
from gridloom.stores.ingest import IngestReport, ingest_journals, is_pending, is_spent, journal_files, read_states
from gridloom.stores.journal import JournalWriter
from gridloom.stores.layout import is_current, lay_out
from gridloom.stores.reading import (
    AttemptPage,
    R,
    declare_dead_runs,
    read_attempt,
    read_attempts,
    read_page,
    read_records,
)
from gridloom.stores.records import AttemptRecord, Record
from gridloom.stores.relation import detached
from gridloom.stores.runs.names import find_attempt
from gridloom.stores.sql import single_statement
from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

READ_TIMEOUT_S = 30.0
FOREIGN_PATIENCE_S = 5.0
"""Longest wait for another program that holds the DuckDB file, s: a reader then reads a copy."""
INGEST_MEMORY = "192MB"
"""Memory of DuckDB while it ingests: the process stays below 500 MB in all; a batch that needs more gets it."""
INGEST_THREADS = 1
"""Threads of DuckDB while it ingests: beside the thread that reads journals, more cost a tenth more processor time."""
CHECKPOINT_AFTER = "64MB"
"""Size of the write-ahead log at which a commit moves it into the file: by default that is every second batch or so."""


class LedgerWriter:
    """Writer of a run's records to a journal of this process. Cheap, thread-safe, never opens DuckDB."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self.workspace = workspace
        self.run_id = run_id
        self._journal = JournalWriter(
            workspace.journal_dir, run_id, make_folder=lambda: workspace.ensure(workspace.journal_dir)
        )

    def append(self, *records: Record) -> None:
        """Write the records as one unit: after SIGKILL at any instant, all of them are kept or none.

        Raises StoreError that names the folder and the remedy when the disk refuses.
        """
        self._journal.append(records)

    def sync(self) -> None:
        """Sync the journal, so that all appended records survive a power failure. Raises StoreError."""
        self._journal.sync()

    def close(self) -> None:
        """Sync and end the journal."""
        self._journal.close()

    @property
    def journal_path(self) -> Path | None:
        """File of the journal; None before the first append."""
        return self._journal.path

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Ledger:
    """Reader of a workspace's records. The DuckDB file is open only during each call."""

    def __init__(
        self, workspace: Workspace, *, timeout_s: float = READ_TIMEOUT_S, limits: Mapping[str, str] | None = None
    ) -> None:
        self.workspace = workspace
        self.timeout_s = timeout_s
        self.limits = dict(limits or {})
        """Settings of DuckDB for reading connections, such as `memory_limit`."""
        self.warnings: list[str] = []
        """Warnings of all ingestions by this object: one line per loss."""

    def ingest(self, progress: Callable[[int, int], None] | None = None) -> IngestReport:
        """Insert all new complete lines of all journals into DuckDB; `progress` receives bytes done and in total.

        Without `progress`, an ingestion that takes long shows how far it is on stderr. After each transaction other
        processes that wait for the ledger have their turn.

        Raises StoreError: ledger or journal of a newer gridloom, file held by another program, disk full.
        """
        report = IngestReport()
        if not self._is_there():
            return report
        path, patience_s = self.workspace.ledger_path, min(self.timeout_s, FOREIGN_PATIENCE_S)
        with shown_when_long(progress, f"updating {path}") as shown:
            report.is_complete = False
            while not report.is_complete:
                with (
                    storage("update the ledger", self.workspace.root),
                    database_errors("update the ledger", path),
                    ledger_lock(self.workspace.lock_path, exclusive=True, timeout_s=self.timeout_s) as lock,
                    closing(lay_out(path, timeout_s=patience_s)) as connection,
                ):
                    connection.execute(f"SET memory_limit = '{INGEST_MEMORY}'")
                    connection.execute(f"SET threads = {INGEST_THREADS}")
                    connection.execute(f"SET checkpoint_threshold = '{CHECKPOINT_AFTER}'")
                    ingest_journals(
                        connection, self.workspace.journal_dir, shown, report=report, is_wanted=lock.is_wanted
                    )
        self.warnings += report.warnings
        return report

    def ingest_if_free(self) -> str:
        """Ingest as `ingest`; where another program holds the ledger, return a line of text that names it.

        Nothing is lost then: the records are in the journals, and the next command ingests them. Raises StoreError as
        `ingest` for anything else.
        """
        try:
            self.ingest()
        except LedgerBusy as busy:
            return f"{busy.message}: what was recorded is in the journals, and the next command adds it to the ledger"
        return ""

    def spent_journals(self) -> list[Path]:
        """Return the undamaged journals of dead processes that are completely in the ledger. Raises StoreError."""
        self.ingest()
        if not self.workspace.ledger_path.exists():
            return []
        with storage("read journals", self.workspace.journal_dir), self._locked():
            return self._spent()

    def prune_journals(self) -> list[Path]:
        """Remove the journals of dead processes that are wholly in the ledger. Returns their paths.

        Until then a lost ledger file is rebuilt from the journals by the next command; afterwards it is the only copy.
        Journals with damaged lines are kept. Raises StoreError as `ingest`.
        """
        self.ingest()
        if not self.workspace.ledger_path.exists():
            return []
        with storage("remove journals", self.workspace.journal_dir), self._locked():
            spent = self._spent()
            for journal in spent:
                journal.unlink()
        return spent

    def _locked(self) -> AbstractContextManager[HeldLock]:
        return ledger_lock(self.workspace.lock_path, exclusive=True, timeout_s=self.timeout_s)

    def _spent(self) -> list[Path]:
        connection = open_database(self.workspace.ledger_path, read_only=True, timeout_s=self.timeout_s)
        try:
            states = read_states(connection)
        finally:
            connection.close()
        return [journal for journal in journal_files(self.workspace.journal_dir) if is_spent(journal, states)]

    def query(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> pa.Table:
        """Return the result of one reading SQL statement over all records up to now, with its types.

        Columns with the name of an earlier one, whatever their case, are numbered: `a`, `a_1`.

        Raises StoreError: not a read, an SQL error (with DuckDB's message and the nearest names), nothing recorded yet.
        """
        single_statement(sql)
        with self.reading() as connection:
            return read_table(connection, sql, params)

    def answer(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> Answer:
        """Return the rows of one reading SQL statement as Python values; names and errors as `query`.

        Times are naive UTC datetimes, or text as DuckDB writes it where Python has none so far off; JSON is text.
        """
        single_statement(sql)
        with self.reading() as connection:
            return read_answer(connection, sql, params)

    def relation(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> duckdb.DuckDBPyRelation:
        """Return `query` as a DuckDB relation in memory with the ledger's types, usable while other processes write."""
        single_statement(sql)
        with self.reading() as connection:
            return detached(connection, sql, params)

    def rows(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return `answer` as a list of dicts."""
        return [*self.answer(sql, params).dicts()]

    def read(self, kind: type[R], **where: Any) -> list[R]:
        """Return the records of a kind whose columns equal `where`, as they were appended. Raises StoreError."""
        with self.reading() as connection:
            return read_records(connection, kind, where)

    def runs(self) -> list[dict[str, Any]]:
        """Return the rows of v_runs, latest first."""
        return self.rows("FROM v_runs ORDER BY started_at DESC NULLS LAST, run_id DESC")

    def latest_run(self) -> str | None:
        """Return the newest run with attempts; a run with a cached solve stage has none."""
        rows = self.rows(
            "SELECT run_id FROM (SELECT DISTINCT run_id FROM task_figures WHERE attempts > 0) "
            "LEFT JOIN runs USING (run_id) ORDER BY started_at DESC NULLS LAST, run_id DESC LIMIT 1"
        )
        return rows[0]["run_id"] if rows else None

    def attempts(
        self,
        run_id: str | None = None,
        *,
        stage: str | None = None,
        task_id: str | None = None,
        failed: bool = False,
        solved: bool | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return rows of v_attempts in the order they were made.

        `failed`: wrong by the score, else not accepted. `solved`: right or wrong by the score, which some have none of.
        """
        return self.rows(
            "FROM v_attempts WHERE ($run IS NULL OR run_id = $run) AND ($stage IS NULL OR stage = $stage) "
            "AND ($task IS NULL OR task_id = $task) AND NOT ($failed AND coalesce(solved, verdict = 'accepted')) "
            "AND ($solved IS NULL OR solved = $solved) "
            "ORDER BY run_id, stage, task_id, attempt, fork LIMIT $limit",
            {"run": run_id, "stage": stage, "task": task_id, "failed": failed, "solved": solved, "limit": limit},
        )

    def attempt_page(
        self,
        run_id: str | None = None,
        *,
        stage: str | None = None,
        task_id: str | None = None,
        failed: bool = False,
        limit: int | None = None,
    ) -> AttemptPage:
        """Return the first rows of `attempts`, of the newest run by default, and the number of all."""
        run_id = run_id or self.latest_run()
        with self.reading() as connection:
            return read_page(connection, run_id, stage, task_id, limit, failed=failed)

    def attempt(self, attempt_id: str, run_id: str | None = None, stage: str | None = None) -> dict[str, Any]:
        """Return all records of the attempt that a name means (`find_attempt`).

        The fields of its AttemptRecord, and `name`, `solved` (None when not scored), `task` (subset, demos, ...),
        `candidates`, `verdicts`, `trm_steps` (lists of dicts), `llm_call` (dict or None).
        Raises ReplayError: no such attempt, with the nearest names; several, with the name of each.
        """
        with self.reading() as connection:
            return read_attempt(connection, attempt_id, run_id, stage)

    def whole_attempts(self, run_id: str, **where: Any) -> list[Attempt]:
        """Return a run's complete attempts whose key columns equal `where`, in key order."""
        with self.reading() as connection:
            return read_attempts(connection, {"run_id": run_id, **where})

    def whole_attempt(self, attempt_id: str, run_id: str | None = None, stage: str | None = None) -> Attempt:
        """Return the attempt that a name means. Raises ReplayError as `attempt`."""
        with self.reading() as connection:
            key = find_attempt(connection, attempt_id, run_id, stage)
            (whole,) = read_attempts(connection, dict(zip(KEY, key, strict=True)))
            return whole

    def graph_threads(self) -> set[str]:
        """Return the LangGraph threads that have a checkpoint or a write; none when nothing is recorded yet."""
        if not self._is_there():
            return set()
        rows = self.rows("SELECT thread_id FROM graph_checkpoints UNION SELECT thread_id FROM graph_writes")
        return {row["thread_id"] for row in rows}

    def read_graphs(self, thread_ids: Sequence[str]) -> list[GraphRecord]:
        """Return all records of these LangGraph threads."""
        where = {"thread_id": list(thread_ids)}
        with self.reading() as connection:
            return [
                *read_records(connection, GraphBlobRecord, where),
                *read_records(connection, GraphCheckpointRecord, where),
                *read_records(connection, GraphWriteRecord, where),
            ]

    def recorded_attempts(self, run_id: str, stage: str) -> list[AttemptRecord]:
        """Return the attempts of a run without forks, by task and attempt; a resumed solve skips these."""
        return self.read(AttemptRecord, run_id=run_id, stage=stage, fork=0)

    def has_records(self) -> bool:
        """Return whether anything was recorded: a ledger or a journal is there. Raises StoreError."""
        return self._is_there()

    def _is_there(self) -> bool:
        with storage("read the ledger", self.workspace.root):
            return self.workspace.ledger_path.exists() or bool(journal_files(self.workspace.journal_dir))

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a read-only connection to an up-to-date ledger, for several queries at once. Not reentrant.

        Raises StoreError: nothing is recorded yet, or the ledger cannot be read.
        """
        workspace = self.workspace
        if not self._is_there():
            raise StoreError(
                f"nothing is recorded in {workspace.root} yet",
                "run a spec first (gridloom run quickstart), or name another workspace with GRIDLOOM_HOME",
            )
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._current())
            except LedgerBusy as busy:
                connection = stack.enter_context(self._copied(busy))
            declare_dead_runs(connection, self.workspace.journal_dir)
            with encodable():
                yield connection

    @contextmanager
    def _current(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a read-only connection to the ledger after ingestion. Raises StoreError: LedgerBusy if it is held."""
        workspace, patience_s = self.workspace, min(self.timeout_s, FOREIGN_PATIENCE_S)
        for fresh in (False, True):
            if fresh or not workspace.ledger_path.exists():
                self._ingest_if_writable()
            with (
                storage("read the ledger", workspace.root),
                database_errors("read", workspace.ledger_path),
                ledger_lock(workspace.lock_path, exclusive=False, timeout_s=self.timeout_s),
                closing(self._open(workspace.ledger_path, patience_s)) as connection,
            ):
                if not is_writable(workspace.root) and not is_current(connection, workspace.ledger_path):
                    # its views may read tables that it lacks and that cannot be added here
                    raise LedgerBusy(f"{workspace.root} is read-only here, its ledger of an earlier version", "")
                # a busy writer may append between ingestion and here: once is up to date enough
                if fresh or not self._is_behind(connection):
                    yield connection
                    return

    @contextmanager
    def _copied(self, busy: LedgerBusy) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a read-only connection to a private copy of the ledger, after ingestion into the copy.

        Raises `busy` where the program that holds the ledger writes to it.
        """
        path = self.workspace.ledger_path
        with tempfile.TemporaryDirectory(prefix="gridloom-ledger-") as folder:
            copied = Path(folder) / path.name
            with storage("copy the ledger", Path(folder)):
                if path.exists() and not copy_unchanged(path, copied, beside=(".wal",)):
                    raise busy
            with database_errors("read a copy of", path):
                with (
                    closing(lay_out(copied, timeout_s=self.timeout_s)) as connection,
                    storage("read journals", self.workspace.journal_dir),
                ):
                    report = ingest_journals(connection, self.workspace.journal_dir)
                self.warnings += [f"{busy.message}: answered from a copy", *report.warnings]
                with closing(self._open(copied, self.timeout_s)) as connection:
                    yield connection

    def _open(self, path: Path, timeout_s: float) -> duckdb.DuckDBPyConnection:
        return open_database(path, read_only=True, timeout_s=timeout_s, settings=self.limits)

    def _is_behind(self, connection: duckdb.DuckDBPyConnection) -> bool:
        workspace = self.workspace
        return not is_current(connection, workspace.ledger_path) or is_pending(
            workspace.journal_dir, read_states(connection)
        )

    def _ingest_if_writable(self) -> None:
        workspace = self.workspace
        if workspace.ledger_path.exists() and not is_writable(workspace.root):
            self.warnings.append(
                f"{workspace.root} is read-only here: answers lack what was recorded since its ledger was last updated"
            )
            return
        self.ingest()
