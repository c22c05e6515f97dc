"""Detection of two different runs with one id, as merged journals of earlier versions can have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridloom.errors import StoreError
from gridloom.stores.runs.clock_id import names_second_only

if TYPE_CHECKING:
    import duckdb

SAME_MOMENT_S = 1.0
"""Ids of earlier versions name a second: the first processes of two runs with one id started this close together."""
COLUMNS = ("graph_key", "host", "pid", "started_at", "ended_at")


class RunStarts:
    """First start of each run that is in the ledger or was read from a journal."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = {run_id: dict(row) for run_id, row in known.items()}

    @classmethod
    def of(cls, connection: duckdb.DuckDBPyConnection) -> RunStarts:
        """Read the runs of a ledger."""
        rows = connection.execute(
            "SELECT run_id, graph_key, host, pid, epoch_us(started_at) / 1e6, epoch_us(ended_at) / 1e6 FROM runs"
        ).fetchall()
        return cls({row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in rows})

    def check(self, columns: Mapping[str, Any], journal: Path) -> None:
        """Note a record of the table `runs`. Raises StoreError when it starts another run than the one of its id."""
        run_id = columns.get("run_id")
        if not isinstance(run_id, str):
            return
        first = self._known.setdefault(run_id, {})
        if columns.get("started_at") is not None:
            if _is_another(run_id, first, columns):
                raise _clash(run_id, first, columns, journal)
            for name in COLUMNS:
                if first.get(name) is None:
                    first[name] = columns.get(name)
        if columns.get("ended_at") is not None:
            first["ended_at"] = columns["ended_at"]


def _is_another(run_id: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether two starts of one id are those of two runs, not of a run and its resumption.

    A run is resumed for the same graph only, and after the process before has ended.
    """
    keys = first.get("graph_key"), second.get("graph_key")
    if None not in keys and keys[0] != keys[1]:
        return True
    began, again = first.get("started_at"), second.get("started_at")
    if not names_second_only(run_id) or not isinstance(began, int | float) or not isinstance(again, int | float):
        return False
    if abs(again - began) > SAME_MOMENT_S or _process(first) == _process(second):
        return False
    ended = first.get("ended_at")
    return first.get("host") != second.get("host") or ended is None or ended > again


def _process(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row.get("host"), row.get("pid")


def _clash(run_id: str, first: Mapping[str, Any], second: Mapping[str, Any], journal: Path) -> StoreError:
    def shown(row: Mapping[str, Any]) -> str:
        return f"host {row.get('host')}, process {row.get('pid')}, graph {row.get('graph_key')}"

    return StoreError(
        f"journal {journal} has another run with the id {run_id}: in it {shown(second)}; in this ledger {shown(first)}",
        "two runs that started in one second have one id in journals of gridloom 0.1.0; move that journal, and what "
        "resumed its run, to the journal folder of a workspace of its own: nothing of it was read",
    )
