"""Insertion: records of journals, collected in a batch and written to the ledger's tables through Arrow.

Most tables keep the first record of a key. They have no index: an index over text keys costs more than everything else
(measured: 280,000 rows/s without, 50,000 with), and only ingestion writes, which compares each batch with the table by
one join.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from gridloom.stores.graph_records import GraphChange
from gridloom.stores.schema import Table, arrow_types, columns_by_table, merge, tables, to_json

if TYPE_CHECKING:
    import duckdb


class UnknownName(Exception):
    """A table or column that this gridloom does not know, with the place of its line."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(what)
        self.place, self.what = place, what


Key = tuple[Any, ...]
Place = tuple[str, int]
"""Journal and sequence number of the line that holds a record."""
_INVALID = (ValueError, TypeError, KeyError, OverflowError, RecursionError)
"""Errors of the conversion of a value that its column cannot hold."""
_GRAPH_KEYS = {
    "graph_checkpoints": ("thread_id", "checkpoint_ns", "checkpoint_id"),
    "graph_writes": ("thread_id", "checkpoint_ns", "checkpoint_id"),
    "graph_blobs": ("thread_id", "checkpoint_ns", "channel", "version"),
}
"""Columns by which a change names the rows that it removes."""


@dataclass(slots=True)
class JournalRow:
    """Record with the place of its line."""

    columns: dict[str, Any]
    place: Place


@dataclass(slots=True)
class Rejection:
    """Record that its table cannot hold, with its columns as written."""

    table: str
    reason: str
    row: JournalRow


class IngestBatch:
    """Records and changes of one transaction."""

    def __init__(self) -> None:
        self.written: dict[str, list[dict[str, Any]]] = {t.name: [] for t in tables().values() if t.policy == "first"}
        """Records of the tables that keep the first record of a key, in the order of the journals."""
        self.updated: dict[str, dict[Key, JournalRow]] = {}
        """Merged records of `runs` and `stages`."""
        self.graphs: dict[str, dict[Any, dict[Key, JournalRow]]] = {}
        """Records of LangGraph by table and thread, without those that a later change removed."""
        self.changes: list[dict[str, Any]] = []
        self.rejected: list[Rejection] = []
        self.num_bytes = 0
        self.num_records = 0
        self._lines: list[tuple[Place, list[dict[str, Any]]]] = []
        self._take = {name: rows.append for name, rows in self.written.items()}

    def add(self, names: list[str], rows: list[dict[str, Any]], place: Place) -> None:
        """Add the records of a line: their tables and columns. Raises UnknownTable."""
        self._lines.append((place, rows))
        self.num_records += len(rows)
        take = self._take
        for name, columns in zip(names, rows, strict=True):
            if name in take:
                take[name](columns)
            elif name == GraphChange.TABLE:
                self.change(columns, place)
            elif name in tables():
                self._update(tables()[name], columns, place)
            else:
                raise UnknownName(place, f"table {name!r}")

    def places(self) -> dict[int, Place]:
        """Return the place of every record by the identity of its columns."""
        return {id(columns): place for place, rows in self._lines for columns in rows}

    def _update(self, table: Table, columns: dict[str, Any], place: Place) -> None:
        """Add a record to a table with an index; its policy decides between two records with the same key."""
        unknown = columns.keys() - columns_by_table()[table.name]
        if unknown:
            raise UnknownName(place, f"column {table.name}.{min(unknown)}")
        row = JournalRow(columns, place)
        key = tuple(columns.get(name) for name in table.key)
        if not _is_key(key):
            self.rejected.append(Rejection(table.name, "its key is not complete", row))
            return
        rows = self.updated.setdefault(table.name, {})
        if table.name in _GRAPH_KEYS:
            rows = self.graphs.setdefault(table.name, {}).setdefault(columns["thread_id"], {})
        before = rows.get(key)
        if before is None:
            rows[key] = row
        elif table.policy == "merge":
            row.columns = merge(before.columns, columns)
            rows[key] = row
        elif table.policy == "replace" or (table.policy == "replace_negative_idx" and _is_negative(columns["idx"])):
            rows[key] = row

    def change(self, change: dict[str, Any], place: Place) -> None:
        """Remove graph rows of this batch, and register the removal of graph rows in the ledger."""
        try:
            doomed = {name: _doomed(change, len(names)) for name, names in _GRAPH_KEYS.items()}
        except _INVALID as error:
            self.rejected.append(Rejection("graph_changes", _reason(error), JournalRow(change, place)))
            return
        self.changes.append(change)
        for name, keys in doomed.items():
            rows = self.graphs.get(name, {}).get(change["thread_id"], {})
            if keys is None:
                rows.clear()
            elif keys:
                width = len(_GRAPH_KEYS[name])
                for key in [key for key in rows if key[:width] in keys]:
                    del rows[key]


def _is_key(key: Key) -> bool:
    return not any(part is None or isinstance(part, (list, dict)) for part in key)


def _stored(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _is_negative(value: Any) -> bool:
    return isinstance(value, int | float) and value < 0


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _doomed(change: dict[str, Any], width: int) -> set[tuple[str, ...]] | None:
    """Return the prefixes (`width` columns) of the keys that a change removes; None for the whole thread.

    Raises TypeError or ValueError for a change of another form.
    """
    if not isinstance(change.get("thread_id"), str):
        raise TypeError(f"thread_id {change.get('thread_id')!r} is not text")
    if change.get("checkpoints") is None and change.get("blobs") is None:
        return None
    named = change.get("checkpoints" if width == 3 else "blobs") or []
    keys = {(change["thread_id"], *parts) for parts in named}
    for key in keys:
        if len(key) != width or not all(isinstance(part, str) for part in key):
            raise ValueError(f"{key!r} is no key of {width} texts")
    return keys


def insert_batch(connection: duckdb.DuckDBPyConnection, batch: IngestBatch) -> None:
    """Write a batch to the tables, inside the caller's transaction; what no table can hold goes to `batch.rejected`."""
    _remove(connection, batch.changes)
    for name, rows in batch.written.items():
        if rows:
            _insert_first(connection, tables()[name], rows, batch)
    for name, updated in batch.updated.items():
        _insert_rows(connection, tables()[name], [*updated.values()], batch.rejected)
    for name, threads in batch.graphs.items():
        rows_of_all = [row for held in threads.values() for row in held.values()]
        _insert_rows(connection, tables()[name], rows_of_all, batch.rejected)


def _insert_first(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: list[dict[str, Any]], batch: IngestBatch
) -> None:
    """Insert the first record of each key that the table lacks. Raises UnknownName."""
    try:
        arrow = _first_to_arrow(table, rows)
    except _INVALID:
        arrow = _first_to_arrow(table, _valid(table, rows, batch), exact=True)
    if not arrow.num_rows:
        return
    keys = ", ".join(table.key)
    names = ", ".join(f'"{c.name}"' for c in table.columns)
    with _registered(connection, arrow):
        (known,) = connection.execute(f"SELECT count(*) FROM {table.name} SEMI JOIN incoming USING ({keys})").fetchall()
        missing = f"incoming ANTI JOIN {table.name} USING ({keys})" if known[0] else "incoming"
        connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {missing}")


def _valid(table: Table, rows: list[dict[str, Any]], batch: IngestBatch) -> list[dict[str, Any]]:
    """Return the records that a table can hold, and reject the others. Raises UnknownName."""
    places, known, valid = batch.places(), columns_by_table()[table.name], []
    for columns in rows:
        row = JournalRow(columns, places[id(columns)])
        unknown = columns.keys() - known
        if unknown:
            raise UnknownName(row.place, f"column {table.name}.{min(unknown)}")
        if not _is_key(tuple(columns.get(name) for name in table.key)):
            batch.rejected.append(Rejection(table.name, "its key is not complete", row))
        elif not _is_rejected(table, row, batch.rejected):
            # texts of keys as they will be stored: only so can equal ones be found
            valid.append(columns | {name: _stored(columns[name]) for name in table.key})
    return valid


def _first_to_arrow(table: Table, rows: list[dict[str, Any]], *, exact: bool = False) -> Any:
    """Return the first record of each key as an Arrow table.

    Raises one of `_INVALID`, also for a column that the table lacks.
    """
    keys = [*zip(*(map(itemgetter(name), rows) for name in table.key), strict=True)]
    if len(set(keys)) < len(keys):
        firsts: dict[Key, dict[str, Any]] = {}
        for key, row in zip(keys, rows, strict=True):
            firsts.setdefault(key, row)
        rows = [*firsts.values()]
    arrow = _to_arrow(table, rows, exact=exact)
    if any(arrow[name].null_count for name in table.key):
        raise ValueError("its key is not complete")
    return arrow


def _insert_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: list[JournalRow], rejected: list[Rejection]
) -> None:
    """Insert or update rows of a table with an index."""
    try:
        arrow = _to_arrow(table, [row.columns for row in rows])
    except _INVALID:
        rows = [row for row in rows if not _is_rejected(table, row, rejected)]
        arrow = _to_arrow(table, [row.columns for row in rows], exact=True)
    if rows:
        with _registered(connection, arrow):
            connection.execute(table.insert("incoming"))


@contextlib.contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, arrow: Any) -> Iterator[None]:
    connection.register("incoming", arrow)
    try:
        yield
    finally:
        connection.unregister("incoming")


def _to_arrow(table: Table, rows: list[dict[str, Any]], *, exact: bool = False) -> Any:
    """Return rows as an Arrow table. Raises one of `_INVALID`.

    Args:
        exact: convert every value by itself; else a column whose Arrow type takes only right values is taken as it is.
    """
    import pyarrow as pa

    arrays, num_present = [], 0
    for column in table.columns:
        name, convert = column.name, column.from_journal
        try:
            values = [*map(itemgetter(name), rows)]
            num_present += len(rows)
        except KeyError:
            values = [row.get(name) for row in rows]
            num_present += sum(name in row for row in rows)
        if exact or not column.is_plain:
            values = [None if value is None else convert(value) for value in values]
        arrays.append(pa.array(values, arrow_types()[column.sql]))  # its errors are ValueErrors and TypeErrors
    if num_present != sum(map(len, rows)):
        raise KeyError(f"a record of {table.name} has a column that the table lacks")
    return pa.Table.from_arrays(arrays, names=[column.name for column in table.columns])


def _is_rejected(table: Table, row: JournalRow, rejected: list[Rejection]) -> bool:
    try:
        _to_arrow(table, [row.columns], exact=True)
    except _INVALID as error:
        rejected.append(Rejection(table.name, _reason(error), row))
        return True
    return False


def _remove(connection: duckdb.DuckDBPyConnection, changes: list[dict[str, Any]]) -> None:
    """Remove the graph rows that changes name, by one statement per table and kind of change."""
    import pyarrow as pa

    for name, columns in _GRAPH_KEYS.items():
        doomed = [(change["thread_id"], _doomed(change, len(columns))) for change in changes]
        whole = [(thread_id,) for thread_id, keys in doomed if keys is None]
        single = [key for _, keys in doomed for key in keys or ()]
        for width, wanted in ((1, whole), (len(columns), single)):
            if wanted:
                arrow = pa.table({columns[i]: [key[i] for key in wanted] for i in range(width)})
                where = " AND ".join(f"{name}.{column} = incoming.{column}" for column in columns[:width])
                with _registered(connection, arrow):
                    connection.execute(f"DELETE FROM {name} USING incoming WHERE {where}")


def rejected_text(columns: Any) -> str:
    """Return a rejected record as JSON."""
    try:
        return to_json(columns)
    except _INVALID:
        return to_json(repr(columns)[:1000])
