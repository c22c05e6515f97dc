"""Tables of the ledger, derived from the records: column types in SQL and Arrow, DDL, and numbered migrations."""

from __future__ import annotations

import functools
import json
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import orjson

from gridloom.stores.evaluation_records import EVALUATION_TABLES
from gridloom.stores.graph_records import GRAPH_TABLES
from gridloom.stores.journal import decode_bytes
from gridloom.stores.records import TABLES, Record
from gridloom.stores.runs.process_records import PROCESS_TABLES

if TYPE_CHECKING:
    import duckdb

OnConflict = Literal["first", "merge", "replace", "replace_negative_idx"]
"""Rule for a second record of a key: ignore it; update non-null fields; replace; replace where idx is negative."""

GRID = "UTINYINT[][]"
DEMOS = f"STRUCT(input {GRID}, output {GRID})[]"

_SQL_TYPES: dict[Any, str] = {
    str: "VARCHAR",
    int: "BIGINT",
    float: "DOUBLE",
    bool: "BOOLEAN",
    bytes: "BLOB",
    list[str]: "VARCHAR[]",
    list[int]: "INTEGER[]",
    list[list[int]]: GRID,
    list[list[list[int]]]: f"{GRID}[]",
    list[dict[str, list[list[int]]]]: DEMOS,
    dict[str, Any]: "JSON",
    dict[str, float]: "JSON",
}
FIGURES = {
    "attempts": {
        "v_llm_tokens": "BIGINT",
        "v_llm_new_tokens": "BIGINT",
        "v_temperature": "DOUBLE",
        "v_trm_steps": "BIGINT",
        "v_seconds": "DOUBLE",
        "v_solved": "BOOLEAN",
        "v_place": "VARCHAR",
    }
}
"""Columns by table that no record has: ingestion counts them (`ingestion.figures`), views show them."""
_JSON_TEXT = {("runs", "graph")}
"""Columns whose records hold JSON as text."""
_POLICIES: dict[str, OnConflict] = {
    "graph_checkpoints": "replace",
    "graph_blobs": "replace",
    "graph_writes": "replace_negative_idx",
}

MAX_TIME_S = 9.2e12
"""Largest time that a TIMESTAMP holds, s since 1970, rounded down."""
MAX_JSON_INTEGER = 10**300
_DIGIT_RUN = re.compile(r"\d{300}")
OUTCOME = ("ended_at", "error")
"""Columns that a new status resets: a run that starts again has not ended, one that is done has no error."""
_LATER = "coalesce(excluded.{0}, {0})"
_MERGED = {
    '"started_at"': "least(started_at, excluded.started_at)",  # of a run that was started again, the first
    '"status"': "CASE WHEN excluded.status = 'cached' AND status = 'done' THEN status ELSE " + _LATER + " END",
    **dict.fromkeys(
        (f'"{name}"' for name in OUTCOME),
        "CASE WHEN coalesce(excluded.status, 'cached') = 'cached' THEN " + _LATER + " ELSE excluded.{0} END",
    ),
}
"""SQL by which a later record of a run or stage updates the earlier one; `merge` does the same in memory."""


def merge(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the columns of two records of one run or stage: later ones win, a new status resets `OUTCOME`.

    The first start is kept. A stage that a resumed run finds cached stays done: this very run made it.
    """
    status = after.get("status")
    starts = [one for one in (before.get("started_at"), after.get("started_at")) if isinstance(one, int | float)]
    if len(starts) == 2:
        after = after | {"started_at": min(starts)}
    if status == "cached" and before.get("status") == "done":
        return before | after | {"status": "done"}
    if status not in (None, "cached"):
        before = {name: value for name, value in before.items() if name not in OUTCOME}
    return before | after


@dataclass(frozen=True, slots=True)
class Column:
    """Column with its SQL type, and the conversion of a journal's value to an Arrow value."""

    name: str
    sql: str
    from_journal: Callable[[Any], Any]
    """Conversion function. Raises ValueError, TypeError, KeyError or OverflowError for an invalid value."""

    @property
    def is_plain(self) -> bool:
        """Whether Arrow takes a journal's value as `from_journal` returns it, or refuses it."""
        return self.from_journal in (_text, _same, float)


@dataclass(frozen=True, slots=True)
class Table:
    """Table of the ledger, filled from records."""

    name: str
    record: type[Record]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    policy: OnConflict

    def create(self) -> str:
        """Return the DDL. A table that keeps the first record of a key has no index: `insertion` compares by a join."""
        lines = [f'"{c.name}" {c.sql}{" NOT NULL" if c.name in self.key else ""}' for c in self.columns]
        lines += [f"{name} {sql}" for name, sql in FIGURES.get(self.name, {}).items()]
        if self.policy != "first":
            lines.append(f"PRIMARY KEY ({', '.join(self.key)})")
        return f"CREATE TABLE IF NOT EXISTS {self.name} (\n  " + ",\n  ".join(lines) + "\n)"

    def insert(self, source: str) -> str:
        """Return the statement that inserts or updates by the rows of `source`, for a table with an index."""
        names = ", ".join(f'"{c.name}"' for c in self.columns)
        head = f"INSERT INTO {self.name} ({names}) SELECT {names} FROM {source} ON CONFLICT ({', '.join(self.key)}) "
        rest = [f'"{c.name}"' for c in self.columns if c.name not in self.key]
        if self.policy == "merge":
            return head + "DO UPDATE SET " + ", ".join(f"{n} = {_MERGED.get(n, _LATER).format(n)}" for n in rest)
        only = " WHERE excluded.idx < 0" if self.policy == "replace_negative_idx" else ""
        return head + "DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in rest) + only


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    # half of a surrogate pair (a model's text cut in the middle) has no UTF-8 form
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _time(value: Any) -> int:
    seconds = float(value)
    if not abs(seconds) < MAX_TIME_S:
        raise ValueError(f"{value!r} is no time in seconds since 1970")
    return round(seconds * 1e6)


def _json_safe(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and abs(value) > MAX_JSON_INTEGER:
        return str(value)
    if isinstance(value, dict):
        return {_text(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_safe(item) for item in value]
    return value


_encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode
_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def is_written_otherwise(quick: bytes) -> bool:
    """Return whether `json` may write otherwise what orjson wrote as `quick`.

    That holds of letters beyond ASCII, NaN as null, very large and very small numbers. A regular expression for these
    takes ten times as long, and every JSON value of a ledger comes here.
    """
    return (
        not quick.isascii()
        or b"null" in quick
        or b"0.0000" in quick
        or b"\x7f" in quick
        or b"0e" in quick.translate(_ZEROS)
    )


def to_json(value: Any) -> str:
    """Return JSON text as `json` writes it, ASCII without spaces."""
    try:
        quick = orjson.dumps(value)
    except orjson.JSONEncodeError:
        quick = b"null"
    if not is_written_otherwise(quick):
        return quick.decode()
    try:
        text = _encode(value)
        if "\\ud" in text or (len(text) > 300 and _DIGIT_RUN.search(text)):
            orjson.loads(text)
    except ValueError:  # NaN, infinities, half surrogate pairs, integers above a double's range: they become text
        return _encode(_json_safe(value))
    return text


def _json_from_text(value: Any) -> str:
    text = _text(value)
    try:
        orjson.loads(text)
    except ValueError:
        return to_json(text)
    return text


def _same(value: Any) -> Any:
    return value


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "VARCHAR": _text,
    "BLOB": decode_bytes,
    "TIMESTAMP": _time,
    "JSON": to_json,
    "DOUBLE": float,
}


def _columns(record: type[Record]) -> tuple[Column, ...]:
    hints = typing.get_type_hints(record)
    columns = []
    for field in fields(record):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType):
            (hint,) = (arg for arg in typing.get_args(hint) if arg is not types.NoneType)
        sql = "TIMESTAMP" if hint is float and field.name.endswith("_at") else _SQL_TYPES[hint]
        convert = _CONVERTERS.get(sql, _same)
        if (record.TABLE, field.name) in _JSON_TEXT:
            sql, convert = "JSON", _json_from_text
        columns.append(Column(field.name, sql, convert))
    return tuple(columns)


@functools.cache
def tables() -> dict[str, Table]:
    """Return all tables that records fill, by name."""
    return {
        record.TABLE: Table(
            record.TABLE,
            record,
            _columns(record),
            record.KEY,
            _POLICIES.get(record.TABLE, "merge" if record.UPDATES else "first"),
        )
        for record in (*TABLES, *EVALUATION_TABLES, *GRAPH_TABLES, *PROCESS_TABLES)
    }


@functools.cache
def columns_by_table() -> dict[str, frozenset[str]]:
    """Return the names of each table's columns."""
    return {name: frozenset(column.name for column in table.columns) for name, table in tables().items()}


@functools.cache
def arrow_types() -> dict[str, Any]:
    """Return the Arrow type of each SQL type used here. JSON is transferred as text and checked by DuckDB."""
    import pyarrow as pa

    grid = pa.list_(pa.list_(pa.uint8()))
    return {
        "VARCHAR": pa.string(),
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "BLOB": pa.binary(),
        "TIMESTAMP": pa.timestamp("us"),
        "JSON": pa.string(),
        "VARCHAR[]": pa.list_(pa.string()),
        "INTEGER[]": pa.list_(pa.int32()),
        GRID: grid,
        f"{GRID}[]": pa.list_(grid),
        DEMOS: pa.list_(pa.struct([("input", grid), ("output", grid)])),
    }


def rows_to_arrow(table: Table, rows: list[dict[str, Any]], *, exact: bool = False) -> Any:
    """Return rows as an Arrow table. Raises ValueError, TypeError, KeyError, OverflowError or RecursionError.

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


BOOKKEEPING = {
    "meta": """CREATE TABLE IF NOT EXISTS meta (
  schema_version INTEGER NOT NULL,
  layout VARCHAR NOT NULL
)""",
    "journals": """CREATE TABLE IF NOT EXISTS journals (
  journal VARCHAR NOT NULL,
  run_id VARCHAR,
  host VARCHAR,
  pid BIGINT,
  started_at TIMESTAMP,
  gridloom_version VARCHAR,
  num_bytes BIGINT NOT NULL,
  next_sequence BIGINT NOT NULL,
  num_records BIGINT NOT NULL,
  lost_lines BIGINT NOT NULL,
  ingested_at TIMESTAMP NOT NULL,
  PRIMARY KEY (journal)
)""",
    "rejected": """CREATE TABLE IF NOT EXISTS rejected (
  journal VARCHAR NOT NULL,
  sequence BIGINT NOT NULL,
  table_name VARCHAR NOT NULL,
  reason VARCHAR NOT NULL,
  record JSON NOT NULL,
  rejected_at TIMESTAMP NOT NULL
)""",
    "places": """CREATE TABLE IF NOT EXISTS places (
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  place VARCHAR
)""",
    "task_figures": """CREATE TABLE IF NOT EXISTS task_figures (
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  task_id VARCHAR NOT NULL,
  attempts BIGINT NOT NULL,
  all_attempts BIGINT NOT NULL,
  accepted BOOLEAN,
  best_score DOUBLE,
  best_attempt_id VARCHAR,
  best_verdict VARCHAR,
  solved BOOLEAN,
  solved_first BOOLEAN,
  pass1 DOUBLE,
  pass2 DOUBLE,
  cell_accuracy DOUBLE,
  llm_tokens BIGINT,
  seconds DOUBLE,
  checkpoint_key VARCHAR
)""",
    "early_parts": """CREATE TABLE IF NOT EXISTS early_parts (
  run_id VARCHAR NOT NULL,
  stage VARCHAR NOT NULL,
  task_id VARCHAR NOT NULL,
  attempt BIGINT NOT NULL,
  fork BIGINT NOT NULL
)""",
}
"""Tables that ingestion maintains, beside those of the records."""


def _create_all(connection: duckdb.DuckDBPyConnection) -> None:
    for statement in (*BOOKKEEPING.values(), *(table.create() for table in tables().values())):
        connection.execute(statement)


MIGRATIONS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (_create_all,)
"""Step n brings schema version n to n + 1. A new table or column needs no step (`add_missing`); a changed one does."""

SCHEMA_VERSION = len(MIGRATIONS)


def add_missing(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the tables and columns that the records have and the ledger lacks."""
    _create_all(connection)
    rows = connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = current_database()"
    ).fetchall()
    present = {(table, column) for table, column in rows}
    for table in tables().values():
        for column in table.columns:
            if (table.name, column.name) not in present:
                connection.execute(f'ALTER TABLE {table.name} ADD COLUMN "{column.name}" {column.sql}')
        for name, sql in FIGURES.get(table.name, {}).items():
            if (table.name, name) not in present:
                connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {name} {sql}")
