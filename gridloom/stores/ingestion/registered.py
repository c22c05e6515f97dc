"""Arrow tables that DuckDB sees under a name for the length of a block of statements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


@contextlib.contextmanager
def registered(connection: duckdb.DuckDBPyConnection, name: str, arrow: pa.Table) -> Iterator[None]:
    """Make rows readable as the table `name`."""
    import duckdb

    connection.register(name, arrow)
    try:
        yield
    finally:
        with contextlib.suppress(duckdb.TransactionException):  # the statement's own error comes first
            connection.unregister(name)
