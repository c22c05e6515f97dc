"""Curves of the stages of a run, thinned to what a chart can show."""

from __future__ import annotations

from typing import Any

from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.reader import Session

POINTS = 300
"""Points of a curve; longer ones are averaged over as many parts of their steps."""
CURVES = 8
"""Curves drawn of a stage at first; `metrics=all` draws all."""
FIRST_METRICS = ("loss", "exact_match", "exact", "cell_accuracy", "pass1", "pass2", "grad_norm", "act_steps")
"""Names of metrics in the order in which they are drawn; others follow by name."""


def curves(session: Session, run_id: str, every: bool = False) -> list[dict[str, Any]]:
    """Return the curves of each stage: its name, the drawn charts, and the number of those left out."""
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for row in curve_ranges(session, run_id):
        by_stage.setdefault(row["stage"], []).append(row)
    found = []
    for stage, rows in by_stage.items():
        drawn = rows if every else rows[:CURVES]
        points = points_of(session, run_id, stage, drawn)
        charts = [line_chart(row["name"], [Series(row["name"], points.get(row["name"], []))]) for row in drawn]
        found.append({"stage": stage, "charts": charts, "left_out": len(rows) - len(drawn)})
    return found


def curve_ranges(session: Session, run_id: str, stage: str | None = None) -> list[dict[str, Any]]:
    """Return the metrics with more than one step of a run, or of one of its stages: stage, name, first, last step."""
    rows = session.rows(
        "SELECT stage, name, min(step) AS first, max(step) AS last FROM metrics "
        "WHERE run_id = $run AND ($stage IS NULL OR stage = $stage) GROUP BY stage, name HAVING count(*) > 1",
        {"run": run_id, "stage": stage},
    )
    return sorted(rows, key=lambda row: (row["stage"], _rank(row["name"]), row["name"]))


def _rank(name: str) -> int:
    return FIRST_METRICS.index(name) if name in FIRST_METRICS else len(FIRST_METRICS)


def points_of(
    session: Session, run_id: str, stage: str, curves: list[dict[str, Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Return the points of curves by name, averaged over at most POINTS parts of equal length.

    Args:
        curves: name, first and last step of each.
    """
    rows = session.connection.execute(
        "WITH ends AS (SELECT unnest($names) AS name, unnest($lows) AS low, unnest($spans) AS span, "
        "unnest(range(len($names))) AS number) "
        "SELECT e.number, avg(m.step), avg(m.value) FROM metrics m JOIN ends e USING (name) "
        "WHERE m.run_id = $run AND m.stage = $stage AND isfinite(m.value) "
        f"GROUP BY e.number, ((m.step - e.low) * {POINTS} // e.span) ORDER BY e.number, 2",
        {
            "run": run_id,
            "stage": stage,
            "names": [row["name"] for row in curves],
            "lows": [row["first"] for row in curves],
            "spans": [max(row["last"] - row["first"] + 1, POINTS) for row in curves],
        },
    ).fetchall()
    found: dict[str, list[tuple[float, float]]] = {}
    for number, step, value in rows:
        found.setdefault(curves[number]["name"], []).append((step, value))
    return found
