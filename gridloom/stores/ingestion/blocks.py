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

from gridloom.stores.attempt import KEY
from gridloom.stores.ingestion.attempt_keys import KEY_TEXT, KEYED, PLACE, KeyTexts
from gridloom.stores.ingestion.cut import CUT_TYPES, cut, parse, to_array
from gridloom.stores.records import AttemptRecord
from gridloom.stores.schema import MAX_TIME_S, Column, Table, arrow_types, tables

if TYPE_CHECKING:
    import pyarrow as pa

_HEAD = re.compile(rb'\{"s":(0|[1-9]\d{0,17}),"r":\[\{"t":"(?=(?:[a-z_]+","r":(%b))?)' % KEY_TEXT)
_TAIL = b"}}]}"
_NEXT_RECORD = b'}},{"t":"'
_COLUMNS = b'","r":'
_SHARED = b'"\n'
"""Mark in place of `_COLUMNS` and the key that the line's first record has; no line has a newline inside."""


@dataclass(frozen=True, slots=True)
class Block:
    """Records of the lines of a block."""

    num_records: int
    arrow: dict[str, pa.Table]
    """Rows of the tables that keep the first record of a key, in the order of the journal.

    Those of an attempt and its parts have the column `PLACE` too, and texts of the key as dictionaries."""
    keys: pa.Table | None = None
    """Keys of the attempts that the block has records of; None where it has none."""
    others: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    """Table, columns and sequence number of the line of all other records, in the order of the journal."""


def read_block(lines: Sequence[bytes], next_sequence: int) -> Block | None:
    """Return the records of whole lines numbered from `next_sequence`; None where one is not plainly regular."""
    pieces: dict[bytes, list[bytes]] = {}
    places: dict[bytes, list[int]] = {name.encode(): [] for name in KEYED}
    others: list[tuple[bytes, bytes, int]] = []
    kept, texts = _kept_tables(), KeyTexts()
    num_records = 0
    for sequence, line in enumerate(lines, next_sequence):
        body = line[9:-1]
        head = _HEAD.match(body)
        if line[:9] != b"%08x " % zlib.crc32(body) or head is None or int(head[1]) != sequence:
            return None
        if not body.endswith(_TAIL):
            return None
        body, place = body[head.end() : -len(_TAIL)], -1
        if head[2]:
            place = texts.place_of(head[2])
            body = body.replace(_COLUMNS + head[2], _SHARED)
        records = body.split(_NEXT_RECORD)
        num_records += len(records)
        for record in records:
            name, is_shared, columns = record.partition(_SHARED)
            if is_shared:
                place_of_record = place
            else:
                name, _, columns = record.partition(_COLUMNS)
            found = pieces.get(name)
            if found is None:
                if name in kept:
                    found = pieces[name] = []
                elif is_shared or b'"' in name or b"\\" in name:
                    return None
                else:
                    others.append((name, columns, sequence))
                    continue
            if name in places:
                if not is_shared:
                    own = texts.split(columns)
                    if own is None:
                        return None
                    place_of_record, columns = own
                places[name].append(place_of_record)
            elif is_shared:
                return None
            found.append(columns)
    try:
        arrow, keys = _rows(
            {name.decode(): columns for name, columns in pieces.items()},
            {name.decode(): found for name, found in places.items()},
            texts,
        )
        whole = [(name.decode(), _object(columns), sequence) for name, columns, sequence in others]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # those of Arrow and orjson are such too
        return None
    return Block(num_records, arrow, keys, whole)


@functools.cache
def _kept_tables() -> frozenset[bytes]:
    return frozenset(table.name.encode() for table in tables().values() if table.policy == "first")


def _object(columns: bytes) -> dict[str, Any]:
    """Return a record, given without its closing brace. Raises ValueError."""
    row = parse(columns + b"}")
    if type(row) is not dict:
        raise ValueError("a record is no object")
    return row


def _rows(
    records: dict[str, list[bytes]], places: dict[str, list[int]], texts: KeyTexts
) -> tuple[dict[str, pa.Table], pa.Table | None]:
    """Return records by table, given without their closing braces, as rows, and the keys of their attempts.

    Args:
        places: number of each record's key in `texts`, by table; these records come without keys and braces.

    Raises ValueError, TypeError or KeyError.
    """
    import pyarrow as pa

    keys = None
    if texts.places:
        keys = _read_json(_key_columns(), texts.records(), b"{")
        if any(keys[name].null_count for name in KEY):
            raise ValueError("a key is not complete")
    arrow = {}
    for name, found in records.items():
        numbers = pa.array(places.get(name, ()), pa.int32())
        arrow[name] = _to_arrow(tables()[name], found, keys if name in places else None, numbers)
    return arrow, keys


def _to_arrow(table: Table, records: list[bytes], keys: pa.Table | None, places: pa.Array) -> pa.Table:
    """Return records, given without their closing braces, as rows. Raises ValueError, TypeError or KeyError.

    Args:
        keys: keys of attempts, which the records lack, as their opening braces; None where they have all columns.
        places: row of each record's key in `keys`.
    """
    import pyarrow as pa

    rest, values = cut(table, records)
    plain = _read_json(_plain_columns(table.name, keys is not None), rest, b"" if keys is None else b"{")
    arrays: dict[str, Any] = {}
    for column in table.columns:
        if keys is not None and column.name in KEY:
            of_keys = keys[column.name].combine_chunks()
            is_text = column.sql == "VARCHAR"
            arrays[column.name] = pa.DictionaryArray.from_arrays(places, of_keys) if is_text else of_keys.take(places)
        elif column.name in values:
            arrays[column.name] = to_array(column, values[column.name])
        else:
            arrays[column.name] = plain[column.name]
    if any(arrays[name].null_count for name in table.key):
        raise ValueError("a key is not complete")
    if keys is not None:
        arrays[PLACE] = places
    return pa.Table.from_pydict(arrays)


@functools.cache
def _key_columns() -> tuple[Column, ...]:
    return tuple(column for column in tables()[AttemptRecord.TABLE].columns if column.name in KEY)


@functools.cache
def _plain_columns(name: str, without_key: bool) -> tuple[Column, ...]:
    """Return the columns of a table that are not cut out, without those of an attempt's key as wanted."""
    columns = (column for column in tables()[name].columns if column.sql not in CUT_TYPES)
    return tuple(column for column in columns if not (without_key and column.name in KEY))


@functools.cache
def _parser(columns: tuple[Column, ...]) -> Any:
    """Return the options of Arrow's JSON reader for objects with these columns."""
    import pyarrow as pa
    from pyarrow.json import ParseOptions

    fields = [(c.name, pa.float64() if c.sql == "TIMESTAMP" else arrow_types()[c.sql]) for c in columns]
    return ParseOptions(explicit_schema=pa.schema(fields), newlines_in_values=False, unexpected_field_behavior="error")


def _read_json(columns: tuple[Column, ...], records: list[bytes], opening: bytes) -> pa.Table:
    """Return columns of records, given without their closing braces, and without `opening`. Raises ValueError."""
    import numpy as np
    import pyarrow as pa
    from pyarrow.json import ReadOptions, read_json

    text = b"%b%b}" % (opening, (b"}\n" + opening).join(records))
    if not text.isascii():
        text.decode()  # raises UnicodeDecodeError, where Arrow does not look
    read = ReadOptions(use_threads=False, block_size=len(text) + 1)
    arrow = read_json(pa.BufferReader(text), read, _parser(columns))
    if arrow.num_rows != len(records):
        raise ValueError("a record is no single object")
    for place, column in enumerate(columns):
        name = column.name
        if column.sql == "DOUBLE" and np.isinf(arrow[name].to_numpy()).any():
            raise ValueError("a number is larger than a float, which an integer must not be")
        if column.sql == "TIMESTAMP":
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
