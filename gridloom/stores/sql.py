"""SQL of users: one reading statement, and DuckDB's error messages with the ledger's nearest names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from gridloom.errors import StoreError
from gridloom.stores.connect import is_of_the_file
from gridloom.stores.schema import BOOKKEEPING, tables
from gridloom.stores.views import VIEWS
from gridloom.wording import first_line

_READS = {"SELECT", "EXPLAIN", "PRAGMA"}
_BEGINS_A_READ = {"PIVOT", "FROM", "SELECT", "WITH", "EXPLAIN", "SUMMARIZE", "DESCRIBE", "SHOW"}
"""First words of a query with a PIVOT, which DuckDB executes as several statements: one reads the values that become
columns. What else such a text might do is refused by the connection, which is read-only and reaches no files."""


def single_statement(sql: str) -> None:
    """Check that `sql` is one statement that reads. Raises StoreError."""
    import duckdb

    try:
        sql.encode("utf-8")
    except UnicodeEncodeError:
        raise StoreError("the query holds bytes that are not UTF-8", "type it in UTF-8") from None
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
    if kind == "MULTI":
        kind = _first_word(sql)
        if kind in _BEGINS_A_READ:
            return
    if kind not in _READS:
        raise _not_a_read(kind)


def _first_word(sql: str) -> str:
    """Return the first word of a statement in capitals, without comments and parentheses before it."""
    found = re.match(r"(?:\s|\(|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\w+)", sql, re.DOTALL)
    return found[1].upper() if found else ""


@contextmanager
def query_errors() -> Iterator[None]:
    """Convert DuckDB's error for a user's statement to a StoreError with its message and the nearest names."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        text = str(error).strip()
        if is_of_the_file(error):
            raise  # `database_errors` names the file
        if "read-only mode" in text:
            raise _not_a_read("") from error
        if "file system operations are disabled" in text:
            raise StoreError(
                f"a query of the ledger cannot reach files: {first_line(error)}",
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
