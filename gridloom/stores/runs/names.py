"""Names that a user types: of attempts (unique in a ledger), of runs, stages and tasks.

An attempt's name is `TASK.ATTEMPT@PLACE` (`TASK.ATTEMPT+FORK@PLACE` for a fork). PLACE is the beginning of the sha256
of run and stage, of as many digits as make the places of the ledger differ. The recorded `attempt_id` has no place: it
is part of published artifacts, which do not depend on the run.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gridloom.errors import GridloomError, ReplayError
from gridloom.wording import did_you_mean, listed, printable

if TYPE_CHECKING:
    import duckdb

MIN_PLACE = 4
"""Smallest number of hexadecimal digits of a place."""
MAX_LISTED = 8
"""Number of attempts that the error about an ambiguous name lists."""
PLACES = f"""
WITH made AS (
  SELECT run_id, stage, sha256(run_id || '/' || stage) AS digest FROM places
),
shortest AS (
  SELECT digits FROM made, range({MIN_PLACE}, 65) AS r(digits)
  GROUP BY digits HAVING count(DISTINCT left(digest, digits)) = count(*) ORDER BY digits LIMIT 1
)
SELECT run_id, stage, left(digest, digits) AS place FROM made, shortest"""
"""Query of the places: run, stage, and the place in the names of its attempts, for the rows of `places`."""


def place_of(run_id: str, stage: str, digits: int = MIN_PLACE) -> str:
    """Return the place of the attempts of a run's stage: the first hexadecimal digits of a sha256."""
    return hashlib.sha256(f"{run_id}/{stage}".encode("utf-8", "backslashreplace")).hexdigest()[:digits]


LOCATED = (
    "run_id", "stage", "task_id", "attempt", "fork", "attempt_id", "v_place", "verdict", "score", "v_solved",
)  # fmt: skip
"""Columns of an attempt that a name is resolved to."""


def attempt_name(row: Mapping[str, Any]) -> str:
    """Return the name of an attempt from its columns, with the shortest place where the row has no `name`."""
    return str(row.get("name") or f"{row['attempt_id']}@{place_of(row['run_id'], row['stage'])}")


def name_at(row: Mapping[str, Any], attempt_id: str) -> str:
    """Return the name of another attempt of the same run and stage."""
    return f"{attempt_id}@{attempt_name(row).rpartition('@')[2]}"


def find_attempt(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str | None, stage: str | None = None
) -> tuple[str, str, str, int, int]:
    """Return (run_id, stage, task_id, attempt, fork) of the attempt that a name means. Raises as `located`."""
    run, of_stage, task_id, attempt, fork = located(connection, name, run_id, stage)[:5]
    return run, of_stage, task_id, attempt, fork


def located(
    connection: duckdb.DuckDBPyConnection, name: str, run_id: str | None, stage: str | None = None
) -> tuple[Any, ...]:
    """Return LOCATED of the attempt that a name means.

    A name is `ATTEMPT@PLACE`, where PLACE is the beginning of a place, a stage or a run; without a place it means the
    attempt of that `attempt_id` in the whole ledger, or in `run_id` and `stage` where these are given.

    Raises ReplayError: no such attempt, with the nearest names; several, with the name of each.
    """
    parts = [(name, "")] + [(name[:at], name[at + 1 :]) for at, mark in enumerate(name) if mark == "@"]
    ids = [attempt_id for attempt_id, _ in parts]
    # an id begins with its task, whose rows lie together: others are read only where that finds none
    of_task = [attempt_id.rpartition(".")[0] for attempt_id in ids]
    rows = _of_ids(connection, ids, run_id, stage, of_task) or _of_ids(connection, ids, run_id, stage)
    found = [row for row in rows if row[5] == name] or [
        row for row in rows if any(row[5] == attempt_id and _is_at(row, place) for attempt_id, place in parts[1:])
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise ReplayError(f"{len(found)} attempts are called '{printable(name)}'", _choice(found))
    where = f" in run {run_id}" if run_id else ""
    where += f" in stage {stage}" if stage else ""
    raise ReplayError(f"unknown attempt '{printable(name)}'{where}", _suggest(connection, parts[-1][0], run_id))


def _of_ids(
    connection: duckdb.DuckDBPyConnection,
    ids: list[str],
    run_id: str | None,
    stage: str | None,
    tasks: list[str] | None = None,
) -> list[tuple[Any, ...]]:
    """Return the attempts of some ids, the newest first, in a run, a stage and tasks where these are given."""
    given = {
        "attempt_id": ids,
        "task_id": tasks,
        "run_id": None if run_id is None else [run_id],
        "stage": None if stage is None else [stage],
    }
    wanted = {name: values for name, values in given.items() if values is not None}
    # one table and constants: a join, or a list of ids, keeps DuckDB from skipping where they cannot be
    where = " AND ".join(f"{name} IN ({', '.join('?' for _ in values)})" for name, values in wanted.items())
    return connection.execute(
        f"SELECT {', '.join(LOCATED)} FROM attempts WHERE {where} ORDER BY started_at DESC",
        [one for values in wanted.values() for one in values],
    ).fetchall()


def _is_at(row: tuple[Any, ...], place: str) -> bool:
    run_id, stage = row[0], row[1]
    return bool(place) and (place in (run_id, stage) or place_of(run_id, stage, 64).startswith(place))


def _choice(rows: list[tuple[Any, ...]]) -> str:
    lines = [
        printable(f"{attempt_id}@{place}  run {run_id}, stage {stage}: {verdict}")
        + ("" if score is None else f" {score:.2f}")
        for run_id, stage, _, _, _, attempt_id, place, verdict, score, _ in rows[:MAX_LISTED]
    ]
    if len(rows) > MAX_LISTED:
        lines.append(f"... and {len(rows) - MAX_LISTED} older ones")
    return "\n  ".join(["name one of them, the newest first (or give --run and --stage):", *lines])


def _suggest(connection: duckdb.DuckDBPyConnection, attempt_id: str, run_id: str | None) -> str:
    task_id = attempt_id.rpartition(".")[0]
    rows = connection.execute(
        "SELECT DISTINCT task_id, attempt_id, attempt, fork FROM attempts WHERE $run IS NULL OR run_id = $run "
        "ORDER BY attempt, fork",
        {"run": run_id},
    ).fetchall()
    of_task = [row[1] for row in rows if row[0] == task_id]
    if of_task:
        shown = ", ".join(of_task) if len(of_task) <= 4 else f"{of_task[0]}, {of_task[1]} ... {of_task[-1]}"
        return f"recorded for {task_id}: {shown}"
    near = difflib.get_close_matches(attempt_id, [row[1] for row in rows], n=3)
    if near:
        return f"did you mean {' or '.join(near)}? `gridloom attempts` lists them"
    return '`gridloom attempts` lists the attempts, `gridloom sql "from v_runs"` the runs'


def short_ids(run_ids: Sequence[str]) -> dict[str, str]:
    """Return for each id its shortest end after a dash that no other id ends with: `1xy3nbn8`."""
    found = {}
    for run_id in run_ids:
        parts = run_id.split("-")
        ends = ["-".join(parts[-number:]) for number in range(1, len(parts) + 1)]
        found[run_id] = next((end for end in ends if sum(other.endswith(end) for other in run_ids) == 1), run_id)
    return found


class Queried(Protocol):
    """Ledger that answers SQL."""

    def rows(self, sql: str, params: Sequence[Any] | dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a reading statement."""


def find_run(what: str, ledger: Queried) -> str:
    """Return the id of the run that `what` means: an id, or the begin or end of a single one.

    Raises GridloomError that names similar ids, or those that it could mean.
    """
    runs = [
        str(row["run_id"])
        for row in ledger.rows(
            "select run_id from (select run_id from runs union select run_id from v_places) "
            "left join runs using (run_id) order by started_at desc nulls last"
        )
    ]
    if what in runs:
        return what
    # also the begin of the last part, which alone differs between runs of one second
    meant = [run for run in runs if what and (run.endswith(what) or run.startswith(what) or f"-{what}" in run[19:])]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise GridloomError(f"{len(meant)} runs are called '{printable(what)}'", f"name one: {listed(meant, 4)}")
    raise GridloomError(
        f"unknown run '{printable(what)}'", did_you_mean(what, runs, f"recorded runs, newest first: {listed(runs, 4)}")
    )


def refuse_unknown(ledger: Queried, run_id: str | None, stage: str | None, task_id: str | None) -> None:
    """Raise GridloomError, with similar names, where a run has no such solve stage or no such task."""
    for what, wanted in (("stage", stage), ("task_id", task_id)):
        if wanted is None:
            continue
        if run_id is None:
            raise GridloomError(f"no attempt is recorded, so none of {what.removesuffix('_id')} '{printable(wanted)}'")
        rows = ledger.rows(
            f"select distinct {what} as name from (select run_id, stage, task_id from tasks "
            "union select run_id, stage, task_id from attempts) where run_id = ? order by name",
            [run_id],
        )
        known = [str(row["name"]) for row in rows]
        if wanted not in known:
            problem = "no solve stage" if what == "stage" else "no task"
            raise GridloomError(
                f"run {run_id} has {problem} '{printable(wanted)}'",
                did_you_mean(wanted, known, f"it has {listed(known, 4)}"),
            )
