"""SQL of users: one reading statement, and DuckDB's error messages with the ledger's nearest names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gridloom.errors import StoreError
from gridloom.stores.schema import BOOKKEEPING, tables
from gridloom.stores.views import VIEWS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_READS = {"SELECT", "EXPLAIN", "PRAGMA"}


def single_statement(sql: str) -> None:
    """Check that `sql` is one statement that reads. Raises StoreError."""
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise StoreError(str(error).strip()) from error
    if len(statements) != 1:
        raise StoreError(
            f"a query is one SQL statement, this text holds {len(statements)}",
            'for example: gridloom sql "from v_attempts limit 5"',
        )
    kind = statements[0].type.name
    if kind not in _READS:
        raise _not_a_read(kind)


def run_query(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] | None
) -> pa.Table:
    """Run a statement on a read-only connection. Raises StoreError with DuckDB's message."""
    with query_errors():
        return connection.sql(sql, params=params).to_arrow_table()


@contextmanager
def query_errors() -> Iterator[None]:
    """Convert DuckDB's error for a user's statement to a StoreError with its message and the nearest names."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        text = str(error).strip()
        if "read-only mode" in text:
            raise _not_a_read("") from error
        if "file system operations are disabled" in text:
            raise StoreError(
                f"a query of the ledger cannot reach files: {text.splitlines()[0]}",
                "export with: gridloom sql QUERY --csv > FILE; or open a copy of the ledger in DuckDB",
            ) from error
        raise StoreError(text, _nearest(text)) from error


def _not_a_read(kind: str) -> StoreError:
    what = f" (this is {kind})" if kind else ""
    return StoreError(
        f"queries of the ledger are read-only{what}", "use SELECT; the ledger is filled from the journals alone"
    )


def _nearest(text: str) -> str:
    """Return a hint for an unknown table, since DuckDB's own suggestion also names its system tables."""
    unknown = re.search(r"Table with name \"?([\w.]+)\"? does not exist", text)
    if not unknown:
        return ""
    names = [*VIEWS, *tables(), *BOOKKEEPING]
    near = difflib.get_close_matches(unknown[1].lower(), names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"views: {', '.join(VIEWS)}"
