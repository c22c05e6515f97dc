"""Layout of the ledger file: creation, migration, and an error when it is newer than this program."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gridloom.errors import StoreError
from gridloom.stores.connect import open_database, transaction
from gridloom.stores.files.write_aside import move
from gridloom.stores.ingestion.figures import EARLY_PARTS, count_all
from gridloom.stores.schema import BOOKKEEPING, MIGRATIONS, SCHEMA_VERSION, add_missing, tables
from gridloom.stores.views import VIEWS

if TYPE_CHECKING:
    import duckdb


@functools.cache
def layout_digest() -> str:
    """Return a hash over tables, views and what ingestion keeps; a ledger with another hash is updated."""
    text = [*BOOKKEEPING.values(), *(table.create() for table in tables().values()), *VIEWS.values(), EARLY_PARTS]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def read_layout(connection: duckdb.DuckDBPyConnection, path: Path) -> tuple[int, str]:
    """Return schema version and layout digest of a ledger. Raises StoreError when it is newer, or no ledger."""
    import duckdb

    try:
        rows = connection.execute("SELECT schema_version, layout FROM meta").fetchall()
    except duckdb.CatalogException:
        rows = []
    if not rows:
        raise StoreError(
            f"{path} is a DuckDB file, but no gridloom ledger", "move it away: the next command makes a new ledger"
        )
    version, layout = rows[0]
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the ledger {path} has schema version {version}; this gridloom knows up to {SCHEMA_VERSION}",
            "upgrade gridloom: pip install --upgrade gridloom",
        )
    return version, layout


def is_current(connection: duckdb.DuckDBPyConnection, path: Path) -> bool:
    """Return whether tables and views are those of this program. Raises StoreError as `read_layout`."""
    return read_layout(connection, path) == (SCHEMA_VERSION, layout_digest())


def lay_out(path: Path, *, timeout_s: float) -> duckdb.DuckDBPyConnection:
    """Open the ledger for writing, created or migrated as needed. The caller holds the ledger lock.

    Raises StoreError; then the file is as it was.
    """
    if not path.exists():
        _create(path, timeout_s)
    connection = open_database(path, read_only=False, timeout_s=timeout_s)
    try:
        version, digest = read_layout(connection, path)
        if (version, digest) != (SCHEMA_VERSION, layout_digest()):
            _bring_up_to_date(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path, timeout_s: float) -> None:
    # created under another name, so that a crash never leaves an incomplete ledger under the ledger's name
    aside = path.with_name(f"{path.stem}.{os.getpid()}.new")
    for leftover in path.parent.glob(f"{path.stem}.*.new*"):
        leftover.unlink(missing_ok=True)
    connection = open_database(aside, read_only=False, timeout_s=timeout_s)
    try:
        lay_out_empty(connection)
        # closing would do it too, but keeps silent when it fails, and a log of its own is not renamed with the file
        connection.execute("CHECKPOINT")
    finally:
        connection.close()
    move(aside, path, durable=True)


def lay_out_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Make all tables and views in an empty database."""
    connection.execute(BOOKKEEPING["meta"])
    connection.execute("INSERT INTO meta VALUES (0, '')")
    _bring_up_to_date(connection, 0)


def _bring_up_to_date(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    with transaction(connection):
        for migrate in MIGRATIONS[version:]:
            migrate(connection)
        if version > 0:
            add_missing(connection)
            count_all(connection)
        for name, body in VIEWS.items():
            connection.execute(f"CREATE OR REPLACE VIEW {name} AS {body}")
        connection.execute("UPDATE meta SET schema_version = ?, layout = ?", [SCHEMA_VERSION, layout_digest()])
