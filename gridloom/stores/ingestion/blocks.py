"""Blocks of journal lines as Arrow tables, without a Python object per value.

A block is read so when every line of it has the form that `JournalWriter` writes and every value the type of its
column. For any other block `read_block` returns None, and each line and value is examined by itself: this module
decides nothing about damage or rejection.

A line is cut where the text `}},{"t":"` stands. In JSON these quotes cannot be inside a text, where they are escaped;
where it stands inside a record, the pieces are no objects, and the block is not read here. `cut` takes the values out
of the records that Arrow's JSON reader does not make, or only slowly.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gridloom.stores.ingestion.cut import CUT_TYPES, cut, parse, to_array
from gridloom.stores.schema import MAX_TIME_S, Table, arrow_types, tables

if TYPE_CHECKING:
    import pyarrow as pa

_HEAD = re.compile(rb'\{"s":(0|[1-9]\d{0,17}),"r":\[\{"t":"')
_TAIL = b"}}]}"
_NEXT_RECORD = b'}},{"t":"'
_COLUMNS = b'","r":'


@dataclass(frozen=True, slots=True)
class Block:
    """Records of the lines of a block."""

    num_records: int
    arrow: dict[str, pa.Table]
    """Rows of the tables that keep the first record of a key, in the order of the journal."""
    others: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    """Table, columns and sequence number of the line of all other records, in the order of the journal."""


def read_block(lines: Sequence[bytes], next_sequence: int) -> Block | None:
    """Return the records of whole lines numbered from `next_sequence`; None where one is not plainly regular."""
    pieces: dict[bytes, list[bytes]] = {}
    others: list[tuple[bytes, bytes, int]] = []
    kept = _kept_tables()
    num_records = 0
    for sequence, line in enumerate(lines, next_sequence):
        body = line[9:-1]
        head = _HEAD.match(body)
        if line[:9] != b"%08x " % zlib.crc32(body) or head is None or int(head[1]) != sequence:
            return None
        if not body.endswith(_TAIL):
            return None
        records = body[head.end() : -len(_TAIL)].split(_NEXT_RECORD)
        num_records += len(records)
        for record in records:
            name, _, columns = record.partition(_COLUMNS)
            found = pieces.get(name)
            if found is not None:
                found.append(columns)
            elif name in kept:
                pieces[name] = [columns]
            elif b'"' in name or b"\\" in name:
                return None
            else:
                others.append((name, columns, sequence))
    try:
        arrow = {name.decode(): _to_arrow(tables()[name.decode()], columns) for name, columns in pieces.items()}
        whole = [(name.decode(), _object(columns), sequence) for name, columns, sequence in others]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # those of Arrow and orjson are such too
        return None
    return Block(num_records, arrow, whole)


@functools.cache
def _kept_tables() -> frozenset[bytes]:
    return frozenset(table.name.encode() for table in tables().values() if table.policy == "first")


def _object(columns: bytes) -> dict[str, Any]:
    """Return a record, given without its closing brace. Raises ValueError."""
    row = parse(columns + b"}")
    if type(row) is not dict:
        raise ValueError("a record is no object")
    return row


def _to_arrow(table: Table, records: list[bytes]) -> pa.Table:
    """Return records, given without their closing braces, as rows. Raises ValueError, TypeError or KeyError."""
    import pyarrow as pa

    rest, values = cut(table, records)
    plain = _read_json(table, rest)
    arrays = [
        to_array(column, values[column.name]) if column.name in values else plain[column.name]
        for column in table.columns
    ]
    arrow = pa.Table.from_arrays(arrays, names=[column.name for column in table.columns])
    if any(arrow[name].null_count for name in table.key):
        raise ValueError("a key is not complete")
    return arrow


@functools.cache
def _parser(name: str) -> Any:
    """Return the options of Arrow's JSON reader for the columns of a table that are not cut out."""
    import pyarrow as pa
    from pyarrow.json import ParseOptions

    columns = [column for column in tables()[name].columns if column.sql not in CUT_TYPES]
    fields = [(c.name, pa.float64() if c.sql == "TIMESTAMP" else arrow_types()[c.sql]) for c in columns]
    return ParseOptions(explicit_schema=pa.schema(fields), newlines_in_values=False, unexpected_field_behavior="error")


def _read_json(table: Table, records: list[bytes]) -> pa.Table:
    """Return the columns of records that are not cut out. Raises ValueError."""
    import numpy as np
    import pyarrow as pa
    from pyarrow.json import ReadOptions, read_json

    text = b"}\n".join(records) + b"}"
    if not text.isascii():
        text.decode()  # raises UnicodeDecodeError, where Arrow does not look
    read = ReadOptions(use_threads=False, block_size=len(text) + 1)
    arrow = read_json(pa.BufferReader(text), read, _parser(table.name))
    if arrow.num_rows != len(records):
        raise ValueError("a record is no single object")
    for place, name in enumerate(arrow.column_names):
        sql = next(column.sql for column in table.columns if column.name == name)
        if sql == "DOUBLE" and np.isinf(arrow[name].to_numpy()).any():
            raise ValueError("a number is larger than a float, which an integer must not be")
        if sql == "TIMESTAMP":
            arrow = arrow.set_column(place, name, _times(arrow[name]))
    return arrow


def _times(seconds: Any) -> Any:
    """Return seconds since 1970 as timestamps, rounded as the conversion of a single value does. Raises ValueError."""
    import numpy as np
    import pyarrow as pa

    present = seconds.is_valid().to_numpy(zero_copy_only=False)
    values = seconds.fill_null(0.0).to_numpy()
    if not np.all(np.abs(values) < MAX_TIME_S):
        raise ValueError("a time lies outside the range of a timestamp")
    microseconds = np.rint(values * 1e6).astype(np.int64)
    return pa.array(microseconds, pa.timestamp("us"), mask=~present)
