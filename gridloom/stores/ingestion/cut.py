"""Values that Arrow's JSON reader makes slowly or not at all, cut out of the text of records: JSON, bytes, grids.

A value is cut from `,"column":` to the `,"` of the first later column of the table that the record has, or to its end.
Both marks have a quote that is not escaped, so that neither is inside a text. What is cut need not be a value, and what
is left need not be an object: whoever calls this parses both, and only where both are regular was the whole so. A
column that a record has twice, or in another order, is left in it or in another value, and is found there.
"""

from __future__ import annotations

import functools
import itertools
import json
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from gridloom.stores.ingestion.digit_lists import lists_of_digits
from gridloom.stores.journal import has_long_integer
from gridloom.stores.schema import GRID, Column, Table, arrow_types, is_written_otherwise, tables, to_json

if TYPE_CHECKING:
    import pyarrow as pa

_DEPTHS = {GRID: 2, f"{GRID}[]": 3}
CUT_TYPES = frozenset({"JSON", "BLOB", *_DEPTHS})
"""SQL types of the columns that are cut out of records."""
_BYTES_HEAD, _BYTES_TAIL = b'{"$b64":"', b'"}'
Values = list[bytes | None]
"""Text of a column's value in each record; None where the record has none."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """Column that is cut out: the text before its value, and the texts of which the first one found ends it."""

    column: Column
    mark: bytes
    ends: tuple[bytes, ...]


@functools.cache
def _cuts(name: str) -> tuple[_Cut, ...]:
    """Return the columns of a table that are cut out, in their order."""
    columns = tables()[name].columns
    marks = [b',"%b":' % column.name.encode() for column in columns]
    return tuple(
        # only the value of a JSON column can itself have the text `,"`
        _Cut(column, marks[place], tuple(marks[place + 1 :]) if column.sql == "JSON" else (b',"',))
        for place, column in enumerate(columns)
        if column.sql in CUT_TYPES
    )


def cut(table: Table, records: list[bytes]) -> tuple[list[bytes], dict[str, Values]]:
    """Return the records without the columns that are cut out, and the text of those by name.

    Args:
        records: JSON objects without their closing braces.
    """
    cuts = _cuts(table.name)
    if not cuts:
        return records, {}
    rest: list[bytes] = []
    values: dict[str, Values] = {one.column.name: [] for one in cuts}
    columns = [(one.mark, len(one.mark), one.ends, values[one.column.name]) for one in cuts]
    for record in records:
        kept, place = [], 0
        for mark, width, ends, found in columns:
            start = record.find(mark, place)
            if start < 0:
                found.append(None)
                continue
            kept.append(record[place:start])
            start += width
            for end in ends:
                place = record.find(end, start)
                if place > 0:
                    break
            else:
                place = len(record)
            found.append(record[start:place])
        kept.append(record[place:])
        rest.append(b"".join(kept))
    return rest, values


def to_array(column: Column, values: Values) -> pa.Array:
    """Return the values of a column, as `rows_to_arrow` stores them. Raises ValueError, TypeError or KeyError."""
    import pyarrow as pa

    kind = arrow_types()[column.sql]
    if values.count(None) == len(values):
        return pa.nulls(len(values), kind)
    if column.sql == "BLOB":
        return pa.array([None if value is None else _bytes(value) for value in values], kind)
    if column.sql in _DEPTHS and (lists := lists_of_digits(values, _DEPTHS[column.sql])) is not None:
        return lists
    if column.from_journal is to_json:
        return pa.array(_json_texts(values), kind)
    parsed = (None if value is None else parse(value) for value in values)
    return pa.array([None if one is None else column.from_journal(one) for one in parsed], kind)


def parse(value: bytes) -> Any:
    """Return the value of JSON text. Raises ValueError."""
    return json.loads(value) if has_long_integer(value) else orjson.loads(value)


def _bytes(value: bytes) -> bytes | None:
    if value == b"null":
        return None
    if not (value.startswith(_BYTES_HEAD) and value.endswith(_BYTES_TAIL)):
        raise ValueError("a value is not written as bytes are")
    return b64decode(value[len(_BYTES_HEAD) : -len(_BYTES_TAIL)], validate=True)


def _json_texts(values: Values) -> list[bytes | str | None]:
    """Return JSON values as `to_json` writes them: as they stand, where that is how. Raises ValueError."""
    found = [*dict.fromkeys(value for value in values if value is not None)]
    text = b"[%b]" % b",".join(found)
    again = [*map(orjson.dumps, orjson.loads(text))]
    # a piece of the text that orjson writes again as it stands is a value by itself, whatever the others are
    if again == found and not is_written_otherwise(text):
        return [*values]
    written: dict[bytes | None, bytes | str | None] = {None: None, b"null": None}
    for value, same in itertools.zip_longest(found, again):
        if value is not None and value not in written:
            written[value] = value if value == same and not is_written_otherwise(value) else to_json(parse(value))
    return [written[value] for value in values]
