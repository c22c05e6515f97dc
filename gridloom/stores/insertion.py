"""Insertion: records of journals, collected in a batch and written to the ledger's tables through Arrow.

Most tables keep the first record of a key. They have no index: an index over text keys costs more than everything else
(measured: 280,000 rows/s without, 50,000 with), and only ingestion writes, which compares each batch with the table by
one join.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridloom.stores.graph_records import GraphChange
from gridloom.stores.ingestion import attempt_keys, figures
from gridloom.stores.ingestion.blocks import Block
from gridloom.stores.ingestion.registered import registered
from gridloom.stores.records import AttemptRecord
from gridloom.stores.schema import Table, columns_by_table, merge, rows_to_arrow, tables, to_json

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


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
        self.arrow: dict[str, list[pa.Table]] = {t.name: [] for t in tables().values() if t.policy == "first"}
        """Rows of the tables that keep the first record of a key, in the order of the journals."""
        self.keys: list[pa.Table] = []
        """Keys of the attempts that blocks have records of; the column `PLACE` of their rows counts over all."""
        self.updated: dict[str, dict[Key, JournalRow]] = {}
        """Merged records of `runs` and `stages`."""
        self.graphs: dict[str, dict[Any, dict[Key, JournalRow]]] = {}
        """Records of LangGraph by table and thread, without those that a later change removed."""
        self.changes: list[dict[str, Any]] = []
        self.rejected: list[Rejection] = []
        self.num_bytes = 0
        self.num_records = 0
        self._written: dict[str, list[JournalRow]] = {}
        """Records of lines that were read one by one, until `settle` converts them."""

    def add_block(self, block: Block, journal: str) -> None:
        """Add the records of a block. Raises UnknownName."""
        self.num_records += block.num_records
        num_keys = sum(keys.num_rows for keys in self.keys)
        if block.keys is not None:
            self.keys.append(block.keys)
        for name, arrow in block.arrow.items():
            self.arrow[name].append(attempt_keys.moved_on(arrow, num_keys))
        for name, columns, sequence in block.others:
            self._add_other(name, columns, (journal, sequence))

    def add(self, names: list[str], rows: list[dict[str, Any]], place: Place) -> None:
        """Add the records of a line: their tables and columns; `settle` comes after. Raises UnknownName."""
        self.num_records += len(rows)
        for name, columns in zip(names, rows, strict=True):
            if name in self.arrow:
                self._written.setdefault(name, []).append(JournalRow(columns, place))
            else:
                self._add_other(name, columns, place)

    def settle(self) -> None:
        """Convert the records of `add` to rows, or reject them. Raises UnknownName."""
        for name, rows in self._written.items():
            arrow = _valid_to_arrow(tables()[name], rows, self.rejected)
            if arrow.num_rows:
                self.arrow[name].append(arrow)
        self._written = {}

    def _add_other(self, name: str, columns: dict[str, Any], place: Place) -> None:
        if name == GraphChange.TABLE:
            self.change(columns, place)
        elif name in tables():
            self._update(tables()[name], columns, place)
        else:
            raise UnknownName(place, f"table {name!r}")

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
        if table.policy == "merge" and _is_rejected(table, row, self.rejected):
            return  # merged, it would take the earlier records of its run with it
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
    import pyarrow as pa

    _remove(connection, batch.changes)
    incoming = {name: _one_table(parts) for name, parts in batch.arrow.items() if parts}
    with ExitStack() as stack:
        for name, rows in incoming.items():
            stack.enter_context(registered(connection, f"incoming_{name}", rows))
        of_attempts = {name: rows for name, rows in incoming.items() if name in attempt_keys.KEYED}
        is_new = is_whole = False
        if batch.keys and all(attempt_keys.PLACE in rows.column_names for rows in of_attempts.values()):
            keys = pa.concat_tables(batch.keys)
            with registered(connection, "incoming_keys", keys):
                is_new = attempt_keys.have_new_keys(connection, keys, of_attempts)
            is_whole = is_new and attempt_keys.are_whole(of_attempts, keys.num_rows)
        news = {
            name: rows if is_new and name in of_attempts else _missing_rows(connection, tables()[name], rows)
            for name, rows in incoming.items()
        }
        for name, rows in news.items():
            if rows is not incoming[name]:
                stack.enter_context(registered(connection, f"new_{name}", rows))
        sources = {name: f"incoming_{name}" if news[name] is incoming[name] else f"new_{name}" for name in news}
        for name, source in sources.items():
            if name != AttemptRecord.TABLE:
                _insert_first(connection, tables()[name], source)
        _insert_attempts(connection, news, sources, is_whole=is_whole)
        figures.count_tasks_of(connection, incoming)
    for name, updated in batch.updated.items():
        _insert_rows(connection, tables()[name], [*updated.values()], batch.rejected)
    for name, threads in batch.graphs.items():
        rows_of_all = [row for held in threads.values() for row in held.values()]
        _insert_rows(connection, tables()[name], rows_of_all, batch.rejected)


def _one_table(parts: list[pa.Table]) -> pa.Table:
    """Return parts of one table's rows as one; without numbered keys, unless all parts have them."""
    import pyarrow as pa

    if all(attempt_keys.PLACE in part.column_names for part in parts):
        return pa.concat_tables(parts)
    return pa.concat_tables([attempt_keys.plain(part) for part in parts])


def _missing_rows(connection: duckdb.DuckDBPyConnection, table: Table, arrow: pa.Table) -> pa.Table:
    """Return the first row of each key that the table lacks; `arrow` itself where these are all.

    Args:
        arrow: rows registered as `incoming_` and the table's name.
    """
    import pyarrow as pa

    keys, incoming = ", ".join(table.key), f"incoming_{table.name}"
    ((distinct, known),) = connection.execute(
        f"SELECT (SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {incoming})), "
        f"(SELECT count(*) FROM {table.name} SEMI JOIN {incoming} USING ({keys}))"
    ).fetchall()
    if not known and distinct == arrow.num_rows:
        return arrow
    place = pa.array(range(arrow.num_rows), pa.int64())
    with registered(connection, "incoming", arrow.select(list(table.key)).append_column("place_in_batch", place)):
        chosen = connection.execute(
            f"SELECT min(place_in_batch) AS place FROM incoming ANTI JOIN {table.name} USING ({keys}) GROUP BY {keys} "
            "ORDER BY place"
        ).fetchall()
    return arrow.take(pa.array([place for (place,) in chosen], pa.int64()))


def _insert_first(connection: duckdb.DuckDBPyConnection, table: Table, source: str) -> None:
    """Insert rows of which the table has none."""
    names = ", ".join(f'"{c.name}"' for c in table.columns)
    connection.execute(f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {source}")


def _insert_attempts(
    connection: duckdb.DuckDBPyConnection, news: Mapping[str, pa.Table], sources: Mapping[str, str], *, is_whole: bool
) -> None:
    """Insert the new attempts of a batch, and count the figures of all attempts that it has a part of.

    As a rule an attempt and its parts are one line. Then its figures are counted from the batch alone.

    Args:
        is_whole: the batch has whole attempts only, and the ledger nothing of them.
    """
    names = (AttemptRecord.TABLE, *figures.PARTS)
    if not any(name in news for name in names):
        return
    keys = figures.KEYS
    with ExitStack() as stack:
        for name in names:
            if name not in news:
                rows = rows_to_arrow(tables()[name], [])
                stack.enter_context(registered(connection, f"incoming_{name}", rows))
        attempts, *parts_of = (sources.get(name, f"incoming_{name}") for name in names)
        figures.keep_places(connection, attempts)
        parts = " UNION ALL ".join(f"SELECT {keys} FROM {source}" for source in parts_of)
        apart = f"SELECT DISTINCT {keys} FROM ({parts}) ANTI JOIN {attempts} USING ({keys})"
        came_before = f"SELECT {keys} FROM early_parts SEMI JOIN {attempts} USING ({keys})"
        if is_whole or not connection.execute(f"SELECT 1 FROM ({apart} UNION ALL {came_before}) LIMIT 1").fetchall():
            if AttemptRecord.TABLE in news:
                calls, steps = parts_of[:2]
                attempts_alone = attempt_keys.without_numbers(news[AttemptRecord.TABLE])
                counted = figures.with_figures(connection, attempts_alone, calls, steps)
                with registered(connection, "counted_attempts", counted):
                    connection.execute("INSERT INTO attempts BY NAME FROM counted_attempts")
            return
        _insert_first(connection, tables()[AttemptRecord.TABLE], attempts)
        connection.execute(f"INSERT INTO early_parts FROM ({apart}) ANTI JOIN early_parts USING ({keys})")
        touched = f"(SELECT {keys} FROM {attempts} UNION {parts})"
        figures.count_attempts(connection, touched)


def _valid_to_arrow(table: Table, rows: list[JournalRow], rejected: list[Rejection]) -> pa.Table:
    """Return the records that a table can hold, and reject the others. Raises UnknownName."""
    try:
        arrow = rows_to_arrow(table, [row.columns for row in rows])
        if not any(arrow[name].null_count for name in table.key):
            return arrow
    except _INVALID:
        pass  # one of them: each is looked at by itself
    known, valid = columns_by_table()[table.name], []
    for row in rows:
        unknown = row.columns.keys() - known
        if unknown:
            raise UnknownName(row.place, f"column {table.name}.{min(unknown)}")
        if not _is_key(tuple(row.columns.get(name) for name in table.key)):
            rejected.append(Rejection(table.name, "its key is not complete", row))
        elif not _is_rejected(table, row, rejected):
            valid.append(row.columns)
    return rows_to_arrow(table, valid, exact=True)


def _insert_rows(
    connection: duckdb.DuckDBPyConnection, table: Table, rows: list[JournalRow], rejected: list[Rejection]
) -> None:
    """Insert or update rows of a table with an index."""
    try:
        arrow = rows_to_arrow(table, [row.columns for row in rows])
    except _INVALID:
        rows = [row for row in rows if not _is_rejected(table, row, rejected)]
        arrow = rows_to_arrow(table, [row.columns for row in rows], exact=True)
    if rows:
        with registered(connection, "incoming", arrow):
            connection.execute(table.insert("incoming"))


def _is_rejected(table: Table, row: JournalRow, rejected: list[Rejection]) -> bool:
    try:
        rows_to_arrow(table, [row.columns], exact=True)
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
                with registered(connection, "incoming", arrow):
                    connection.execute(f"DELETE FROM {name} USING incoming WHERE {where}")


def rejected_text(columns: Any) -> str:
    """Return a rejected record as JSON."""
    try:
        return to_json(columns)
    except _INVALID:
        return to_json(repr(columns)[:1000])
