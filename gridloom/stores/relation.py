"""Answers of queries as DuckDB relations in memory, which outlive the ledger's connection and lock nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gridloom.stores.sql import query_errors

if TYPE_CHECKING:
    import duckdb

_AS_TEXT = ("BIT", "HUGEINT", "UHUGEINT", "BIGNUM", "TIME WITH TIME ZONE")
"""Types without an Arrow type of the same range, which are transferred as text."""


def detached(
    connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[Any] | dict[str, Any] | None
) -> duckdb.DuckDBPyRelation:
    """Return the result of a statement as a relation in memory with the same rows and column types.

    Columns with the name of an earlier one, whatever their case, are numbered: `a`, `A_1`, `a_2`.

    Raises StoreError with DuckDB's message.
    """
    import duckdb

    with query_errors():
        answer = connection.sql(sql, params=params)
        types = [str(type_) for type_ in answer.types]
        names = distinct(answer.columns)
        sent = (f"CAST(#{i} AS VARCHAR)" if t in _AS_TEXT else f"#{i}" for i, t in enumerate(types, 1))
        table = answer.project(", ".join(sent)).to_arrow_table()
    memory = duckdb.connect(":memory:", config={"python_enable_replacements": "false"})
    rows = memory.from_arrow(table.rename_columns([f"c{i}" for i in range(len(names))]))
    kept = (
        f"{f'#{i}' if str(there) == wanted else f'CAST(#{i} AS {wanted})'} AS {_quoted(name)}"
        for i, (there, wanted, name) in enumerate(zip(rows.types, types, names, strict=True), 1)
    )
    return rows.project(", ".join(kept))


def distinct(names: Iterable[str]) -> list[str]:
    """Number names that occur before, whatever their case: `a`, `A_1`, `a_2`."""
    names = list(names)
    taken, found = {name.casefold() for name in names}, []
    seen: set[str] = set()
    for name in names:
        new, number = name, 0
        if name.casefold() in seen:
            while new.casefold() in taken:
                number += 1
                new = f"{name}_{number}"
            taken.add(new.casefold())
        seen.add(new.casefold())
        found.append(new)
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
