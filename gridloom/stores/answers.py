"""Answers of queries: Arrow tables with distinct column names, and rows of Python values that lose nothing.

Not every DuckDB type has an Arrow type or a Python type of the same range: dates run from 290308 BC to 294247 and have
infinities, intervals have months. What Arrow or Python cannot hold is transferred as the text that DuckDB writes;
lists, structs and maps that contain such a type are transferred as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from gridloom.stores.relation import distinct
from gridloom.stores.sql import query_errors

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa
    from duckdb.sqltypes import DuckDBPyType

BATCH_ROWS = 10_000
"""Rows that are converted to Python values at a time."""
_NESTED = {"list", "array", "struct"}
_AS_JSON = {*_NESTED, "map", "tuple", "union", "variant"}
_EXACT = {
    *("boolean", "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger", "ubigint"),
    *("float", "double", "decimal", "varchar", "blob", "enum", "null"),
}
"""Ids of the types whose values are equal in DuckDB, Arrow and Python."""
_IN_ARROW = {
    *_EXACT,
    *("hugeint", "uuid", "date", "time", "time_ns", "map"),
    *("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"),
}
"""Ids of the types that Arrow and Parquet hold."""

_AS_FETCHED = _EXACT | {"hugeint", "uhugeint", "timestamp", "date"}
"""Ids of the types of which DuckDB itself makes the Python values of `Answer.rows`; times at the ends of Python's range
excepted, which stand for infinities too."""
_ENDS = {datetime.min, datetime.max, date.min, date.max}

Convert = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Result of a query, with the conversion of each column to Python values."""

    names: tuple[str, ...]
    """Names of the columns, all different."""
    table: pa.Table
    converts: tuple[Convert | None, ...]

    @property
    def num_rows(self) -> int:
        return int(self.table.num_rows)

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, converted some thousand at a time."""
        for batch in self.table.to_batches(max_chunksize=BATCH_ROWS):
            columns = [
                column.to_pylist()
                if convert is None
                else [None if v is None else convert(v) for v in column.to_pylist()]
                for column, convert in zip(batch.columns, self.converts, strict=True)
            ]
            yield from zip(*columns, strict=True)

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Yield the rows by column name."""
        return (dict(zip(self.names, row, strict=True)) for row in self.rows())


def read_answer(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] | None
) -> Answer:
    """Run a statement on a read-only connection. Raises StoreError with DuckDB's message."""
    with query_errors():
        answer = connection.sql(sql, params=params)
        sent, converts = zip(*(_transfer(i, type_) for i, type_ in enumerate(answer.types, 1)), strict=True)
        names = tuple(distinct(answer.columns))
        table = answer.project(", ".join(f"{one} AS c{i}" for i, one in enumerate(sent))).to_arrow_table()
    return Answer(names, table, converts)


def read_dicts(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Return the rows of `read_answer` by column name. Raises StoreError with DuckDB's message.

    A statement whose types allow it is planned once, where an Arrow table takes three times: that is most of the time
    of a short one.
    """
    with query_errors():
        result = connection.execute(sql, params)
        columns = result.description or []
        if all(_is_fetched(column[1]) for column in columns):
            rows = result.fetchall()
            if not any(value in _ENDS for row in rows for value in row if isinstance(value, date)):
                names = distinct([column[0] for column in columns])
                return [dict(zip(names, row, strict=True)) for row in rows]
        elif hasattr(result, "abort"):  # DuckDB from 2.0 on demands an end of a result that is not read
            result.abort()
    return [*read_answer(connection, sql, params).dicts()]


def _is_fetched(type_: Any) -> bool:
    """Return whether `fetchall` gives a column the values of `Answer.rows`."""
    name = getattr(type_, "id", None)  # DuckDB before 1.4 describes columns otherwise
    if name in ("list", "struct"):
        return all(_is_of(child, _EXACT) and child.id != "array" for _, child in type_.children)
    return name in _AS_FETCHED


def read_table(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] | None
) -> pa.Table:
    """Run a statement; return its rows with their types, as text or JSON where Arrow has none. Raises StoreError."""
    with query_errors():
        answer = connection.sql(sql, params=params)
        sent = (f"#{i}" if _is_of(type_, _IN_ARROW) else _as_text(i, type_) for i, type_ in enumerate(answer.types, 1))
        table = answer.project(", ".join(f"{one} AS c{i}" for i, one in enumerate(sent))).to_arrow_table()
        return table.rename_columns(distinct(answer.columns))


def jsonable(value: Any) -> Any:
    """Return a value for JSON: NaN and infinities, bytes (as Python writes them) and times are text.

    A decimal is a number where a double has its value, else text with all its digits.
    """
    if isinstance(value, float):
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        return str(value)  # the form of earlier versions, which scripts may read
    if isinstance(value, Decimal):
        return _number(str(value))
    if isinstance(value, list):
        return [jsonable(item) for item in value]
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, date | time):
        return str(value)
    return value


def _is_of(type_: DuckDBPyType, ids: set[str]) -> bool:
    """Return whether a type and everything nested in it is one of `ids`."""
    if type_.id in _NESTED or (type_.id == "map" and "map" in ids):
        # an array's children are its type and its size
        return all(_is_of(child, ids) for _, child in type_.children if not isinstance(child, int | list))
    return type_.id in ids


def _as_text(position: int, type_: DuckDBPyType) -> str:
    if type_.id in _AS_JSON:
        return f"CAST(to_json(#{position}) AS VARCHAR)"
    return f"CAST(#{position} AS VARCHAR)"


def _transfer(position: int, type_: DuckDBPyType) -> tuple[str, Convert | None]:
    """Return the SQL of a column as it is sent, and the conversion of what arrives."""
    if _is_of(type_, _EXACT):
        return f"#{position}", None
    converts: dict[str, Convert] = {
        **dict.fromkeys(("hugeint", "uhugeint", "bignum"), int),
        "date": _parsed(date.fromisoformat),
        **dict.fromkeys(("time", "time_ns", "time with time zone"), _parsed(time.fromisoformat)),
        **dict.fromkeys(
            ("timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"),
            _parsed(datetime.fromisoformat),
        ),
        **dict.fromkeys(_AS_JSON, _from_json),
    }
    return _as_text(position, type_), converts.get(type_.id)


def _parsed(parse: Convert) -> Convert:
    """Return a function that reads a time as DuckDB writes it; what Python cannot hold stays text."""

    def read(text: str) -> Any:
        if len(text.partition(".")[2].partition("+")[0]) > 6:
            return text  # nanoseconds
        with suppress(ValueError):
            return parse(text)
        return text

    return read


def _from_json(text: str) -> Any:
    return json.loads(text, parse_float=_number)


def _number(text: str) -> float | str:
    """Return the double of a number's digits; the digits where no double has that value."""
    value = float(text)
    if value - value != 0 or Decimal(repr(value)) == Decimal(text):
        return value
    return text
