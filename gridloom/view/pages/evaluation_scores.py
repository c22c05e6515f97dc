"""Scores of the evaluations of a run: shares with 95% Wilson intervals, as the terminal prints them."""

from __future__ import annotations

from typing import Any

from gridloom.runtime.evaluation.intervals import wilson
from gridloom.view.reader import Session

TABLES = {"tasks": "tasks", "puzzles": "puzzle_predictions", "votes": "evaluations", "sequences": "difficulties"}
"""Table of the ledger with the rows of each page of tasks."""
QUERIES = {
    "votes": (
        "WITH of_task AS (SELECT stage, task_id, count(*) AS tests, avg((coalesce(rank, 2) < 1)::INT) AS pass1, "
        "avg((coalesce(rank, 2) < 2)::INT) AS pass2, avg(cell_accuracy) AS cells FROM evaluations "
        "WHERE run_id = $run GROUP BY stage, task_id) "
        "SELECT stage, NULL AS kind, sum(tests)::BIGINT AS tests, count(*) AS items, avg(pass1) AS pass1, "
        "avg(pass2) AS pass2, avg(cells) AS cells FROM of_task GROUP BY stage ORDER BY stage"
    ),
    "puzzles": (
        "SELECT stage, any_value(kind) AS kind, count(*) AS answered, count(exact) AS items, avg(exact::INT) AS exact, "
        "avg(valid::INT) AS valid, sum(cells_right) FILTER (exact IS NOT NULL) / "
        "sum(num_cells) FILTER (exact IS NOT NULL) AS cells, avg(act_steps) AS act_steps "
        "FROM puzzle_predictions WHERE run_id = $run GROUP BY stage ORDER BY stage"
    ),
    "sequences": (
        "SELECT stage, any_value(kind) AS kind, sum(num_rows)::BIGINT AS answered, sum(num_scored)::BIGINT AS items, "
        "sum(num_right) / nullif(sum(num_scored), 0) AS exact, "
        "sum(num_places_right) / nullif(sum(num_places), 0) AS places, "
        "sum(num_rows * mean_steps) / sum(num_rows) AS act_steps "
        "FROM difficulties WHERE run_id = $run GROUP BY stage ORDER BY stage"
    ),
}
"""Query of each page of evaluations: a row a stage; `items` are what its shares are over, `answered` all answers."""

SHARES = {"votes": ("pass2", "pass1"), "puzzles": ("exact", "valid"), "sequences": ("exact",)}
"""Columns that get an interval. Votes are averaged over a task's test inputs, then over tasks."""


def has_rows(session: Session, page: str, run: str | None) -> bool:
    """Return whether a page of tasks has something of a run, or of any run."""
    where, given = ("", []) if run is None else ("WHERE run_id = ?", [run])
    asked = ", ".join(f"EXISTS (SELECT 1 FROM {table} {where}) AS {name}" for name, table in TABLES.items())
    found = session.once(("has", run), lambda: session.rows(f"SELECT {asked}", given * len(TABLES))[0])
    return bool(found[page])


def evaluation_scores(session: Session, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return the scores of a run's evaluations by page: votes, puzzles, sequences; a row a stage.

    A share without a known answer is None, and so is its interval `NAME_interval`.
    """
    found = {
        page: session.rows(query, {"run": run_id}) if has_rows(session, page, run_id) else []
        for page, query in QUERIES.items()
    }
    for page, rows in found.items():
        for row in rows:
            for name in SHARES[page]:
                over = row["answered"] if name == "valid" else row["items"]
                row[f"{name}_interval"] = None if row[name] is None else wilson(row[name], over)
    return found
