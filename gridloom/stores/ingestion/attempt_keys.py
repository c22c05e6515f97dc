"""Keys of attempts: read once for all records of an attempt in a block, and compared once a batch.

An attempt and its parts begin with the same five columns, as a rule with the same text. The parts are numbered by it,
so that whether a batch has a key twice, or parts of an attempt that it has not, is a question about small numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gridloom.stores.attempt import KEY
from gridloom.stores.ingestion.figures import KEYS, PARTS
from gridloom.stores.records import AttemptRecord
from gridloom.stores.schema import tables

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

PLACE = "place_of_key"
"""Column with the row of a record's key in the table of keys."""
_TEXT = rb'"(?:[^"\\]|\\.)*"'
_NUMBER = rb"\d+"
KEY_TEXT = rb'\{"run_id":%b,"stage":%b,"task_id":%b,"attempt":%b,"fork":%b,' % (_TEXT, _TEXT, _TEXT, _NUMBER, _NUMBER)
"""Pattern of the beginning of a record of an attempt, as its journal has it."""
_KEY = re.compile(KEY_TEXT)
KEYED = frozenset({AttemptRecord.TABLE, *PARTS})
"""Tables with rows of attempts, whose keys begin with the key of an attempt."""


class KeyTexts:
    """Texts of the keys in a block, numbered in the order in which they come."""

    def __init__(self) -> None:
        self.places: dict[bytes, int] = {}

    def place_of(self, text: bytes) -> int:
        """Return the number of a key."""
        return self.places.setdefault(text, len(self.places))

    def split(self, record: bytes) -> tuple[int, bytes] | None:
        """Return the number of a record's key, and the record without key and brace; None where it begins otherwise."""
        head = _KEY.match(record)
        return None if head is None else (self.place_of(head[0]), record[head.end() :])

    def records(self) -> list[bytes]:
        """Return the keys as objects without their braces."""
        return [text[1:-1] for text in self.places]


def moved_on(rows: pa.Table, num_keys: int) -> pa.Table:
    """Return rows with the numbers of their keys, where they have them, counted from `num_keys` on."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if num_keys == 0 or PLACE not in rows.column_names:
        return rows
    later = pc.add(rows[PLACE], pa.scalar(num_keys, pa.int32()))
    return rows.set_column(rows.column_names.index(PLACE), PLACE, later)


def without_numbers(rows: pa.Table) -> pa.Table:
    """Return rows without the numbers of their keys."""
    return rows.drop_columns(PLACE) if PLACE in rows.column_names else rows


def plain(rows: pa.Table) -> pa.Table:
    """Return rows without the numbers of their keys, and with texts as such."""
    import pyarrow as pa

    rows = without_numbers(rows)
    kinds = [
        pa.field(one.name, one.type.value_type if pa.types.is_dictionary(one.type) else one.type) for one in rows.schema
    ]
    return rows.cast(pa.schema(kinds))


def have_new_keys(connection: duckdb.DuckDBPyConnection, keys: pa.Table, incoming: Mapping[str, pa.Table]) -> bool:
    """Return whether each key of a batch is new to the ledger and no record of the batch is there twice.

    Where a table has a row of an attempt, `attempts` has its key or `early_parts`: these two are looked at.

    Args:
        keys: keys of the attempts that `incoming` has records of, registered as `incoming_keys`.
        incoming: rows of the tables `KEYED`, with the column `PLACE`.
    """
    ((distinct, known),) = connection.execute(
        f"SELECT (SELECT count(*) FROM (SELECT DISTINCT {KEYS} FROM incoming_keys)), "
        f"(SELECT count(*) FROM (SELECT {KEYS} FROM attempts UNION ALL FROM early_parts) "
        f"SEMI JOIN incoming_keys USING ({KEYS}))"
    ).fetchall()
    if known or distinct != keys.num_rows:
        return False
    return all(_are_distinct(rows, (PLACE, *tables()[name].key[len(KEY) :])) for name, rows in incoming.items())


def _are_distinct(rows: pa.Table, names: tuple[str, ...]) -> bool:
    """Return whether no two rows are equal in columns of numbers or texts; False too where this is not easily said."""
    import numpy as np

    code = np.zeros(rows.num_rows, dtype=np.int64)
    span = 1
    for name in names:
        column = rows[name].combine_chunks()
        if column.type in ("string", "large_string"):
            column = column.dictionary_encode().indices
        numbers = column.to_numpy(zero_copy_only=False).astype(np.int64)
        least, most = int(numbers.min(initial=0)), int(numbers.max(initial=0))
        span *= most - least + 1
        if span >= 1 << 62:
            return False
        code = code * (most - least + 1) + (numbers - least)
    return bool((np.diff(code) > 0).all()) or len(np.unique(code)) == len(code)


def are_whole(incoming: Mapping[str, pa.Table], num_keys: int) -> bool:
    """Return whether a batch has the attempt of each part of one that it has."""
    import numpy as np

    if AttemptRecord.TABLE not in incoming:
        return not incoming
    present = np.zeros(num_keys, dtype=np.bool_)
    present[incoming[AttemptRecord.TABLE][PLACE].to_numpy()] = True
    return all(bool(present[rows[PLACE].to_numpy()].all()) for rows in incoming.values())
