"""Read-only access of the viewer to a ledger: one connection a page, with bounds on the queries of users."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gridloom.errors import GridloomError, StoreError
from gridloom.stores.answers import read_dicts
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.reading import read_attempt
from gridloom.stores.relation import distinct
from gridloom.stores.sql import query_errors, single_statement
from gridloom.stores.workspace import Workspace
from gridloom.view.held import HeldLedger, Memo
from gridloom.view.recorded import version

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
LIMITS = {"memory_limit": "1GB", "threads": "2", "max_temp_directory_size": "1GB"}
"""Settings of DuckDB for every connection of the viewer; queries cannot change them."""
QUERY_S = 10.0
"""Time after which a query of a user is interrupted, s."""
QUERY_ROWS = 1000
"""Rows of a user's query that are shown."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Result of a query of a user."""

    names: list[str]
    """Names of the columns, all different."""
    rows: list[tuple[Any, ...]]
    """First rows, at most QUERY_ROWS."""
    is_cut: bool
    """Whether there are more rows."""


def reading_ledger(workspace: Workspace) -> Ledger:
    """Return a reader of the ledger with the viewer's bounds."""
    return Ledger(workspace, timeout_s=10.0, limits=LIMITS)


def find_artifact(workspace: Workspace, key: str) -> Artifact | None:
    """Return the published artifact of a key, None for one that is not there or is no key. Raises StoreError."""
    try:
        return ArtifactStore(workspace).find(key)
    except ValueError:  # such as a path: keys of addresses and of recorded graphs are not trusted
        return None


class Session:
    """Queries of one page, on one read-only connection."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        warnings: Sequence[str],
        memo: Memo | None = None,
    ) -> None:
        self.connection = connection
        self._memo = Memo() if memo is None else memo
        self.workspace = workspace
        self.warnings = warnings
        """Remarks on the ledger, such as that it is answered from a copy."""

    def rows(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a statement of the viewer as dicts; JSON columns are text."""
        return read_dicts(self.connection, sql, params)

    def one(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> dict[str, Any] | None:
        """Return the first row, or None."""
        return next(iter(self.rows(sql, params)), None)

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return what `make` returns for a key, computed once while nothing new is recorded.

        Pages of other readers get the same object: it is not changed.
        """
        return self._memo.once(key, make)

    def attempt(self, name: str, run_id: str | None = None, stage: str | None = None) -> dict[str, Any]:
        """Return all records of an attempt, as `Ledger.attempt`. Raises ReplayError."""
        return read_attempt(self.connection, name, run_id, stage)

    def artifact(self, key: str) -> Artifact | None:
        """Return the published artifact of a key, None where it is not in the workspace. Raises StoreError."""
        return find_artifact(self.workspace, key)

    def query(self, sql: str, *, seconds: float = QUERY_S, most: int = QUERY_ROWS) -> QueryResult:
        """Run one reading statement of a user.

        The connection reads no files and changes nothing; memory is bounded by LIMITS.
        Raises StoreError: no single reading statement, an SQL error, or longer than `seconds`.
        """
        import duckdb

        single_statement(sql)
        timer = threading.Timer(seconds, self.connection.interrupt)
        timer.daemon = True
        timer.start()
        try:
            with query_errors():
                cursor = self.connection.execute(sql)
                names = distinct([column[0] for column in cursor.description or ()])
                found = cursor.fetchmany(most + 1)
        except (duckdb.InterruptException, StoreError) as error:
            if "interrupt" in str(error).lower():
                raise StoreError(
                    f"the query was stopped after {seconds:g} s",
                    "ask for less, such as one run (where run_id = ...), or use gridloom sql",
                ) from error
            raise
        except OverflowError as error:
            raise StoreError(
                f"a value has no form in Python: {error}", "cast it to text: select CAST(x AS VARCHAR)"
            ) from error
        finally:
            timer.cancel()
        return QueryResult(names, found[:most], len(found) > most)


class Reader:
    """Source of sessions on the ledger of a workspace. Safe to use from several threads."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._held = HeldLedger(self._ledger, lambda: version(workspace))

    def is_empty(self) -> bool:
        """Return whether nothing is recorded yet. Raises StoreError."""
        return not self._ledger().has_records()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open the ledger for one page, with everything that was recorded up to now.

        Raises StoreError: nothing is recorded, or the ledger cannot be read.
        """
        with self._held.cursor() as (connection, warnings, memo):
            yield Session(connection, self.workspace, warnings, memo)

    def close(self) -> None:
        """Close the connection that is kept between pages."""
        self._held.close()

    def _ledger(self) -> Ledger:
        return reading_ledger(self.workspace)


def places(values: Sequence[Any]) -> str:
    """Return placeholders for the values of an IN, `?, ?`.

    DuckDB finds few of many rows in half the time where it knows the values as constants, not as a list that is joined.
    """
    return ", ".join("?" for _ in values) or "NULL"


def latest_run(session: Session) -> str:
    """Return the run that started last. Raises GridloomError where none is recorded."""
    row = session.one("SELECT run_id FROM runs ORDER BY started_at DESC NULLS LAST, run_id DESC LIMIT 1")
    if row is None:
        raise GridloomError("no run is recorded yet", "start one: gridloom run quickstart")
    return str(row["run_id"])
