"""Comparisons without pairs of items: trainings by their curves, evaluations of sequences by difficulty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gridloom.runtime.evaluation.intervals import wilson
from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.pages.curves import curve_ranges, points_of
from gridloom.view.reader import Session

Place = tuple[str, str]
"""Run and stage."""
CURVES = 12
"""Curves drawn of two trainings."""


def trainings(session: Session) -> list[dict[str, Any]]:
    """Return the stages with curves, of the latest runs first: run_id, stage, name."""
    return session.rows(
        "SELECT s.run_id, s.stage, r.name FROM stages s LEFT JOIN runs r USING (run_id) "
        "SEMI JOIN (SELECT DISTINCT run_id, stage FROM metrics WHERE step > 0) m "
        "ON m.run_id = s.run_id AND m.stage = s.stage "
        "ORDER BY r.started_at DESC NULLS LAST, s.run_id DESC, s.started_at, s.stage LIMIT 200"
    )


def has_curves(session: Session, run: str | None) -> bool:
    """Return whether a run, or any run, has curves."""
    where = "" if run is None else "AND run_id = ?"
    return bool(session.rows(f"SELECT 1 AS one FROM metrics WHERE step > 0 {where} LIMIT 1", [run] if run else []))


def compared_curves(session: Session, sides: Mapping[str, Place]) -> dict[str, Any]:
    """Return the charts of the metrics that all trainings have, and the last value of each metric of any.

    Args:
        sides: trainings by their letters.
    """
    ranges = {name: {row["name"]: row for row in curve_ranges(session, *place)} for name, place in sides.items()}
    in_all = [metric for metric in next(iter(ranges.values())) if all(metric in one for one in ranges.values())]
    points = {
        name: points_of(session, *place, [ranges[name][metric] for metric in in_all[:CURVES]])
        for name, place in sides.items()
    }
    of_one_run = len({run for run, _ in sides.values()}) == 1
    charts = [
        line_chart(
            metric,
            [
                Series(f"{name}: {place[1] if of_one_run else place[0]}", points[name].get(metric, []))
                for name, place in sides.items()
            ],
        )
        for metric in in_all[:CURVES]
    ]
    last = {
        name: {
            row["name"]: row
            for row in session.rows(
                "SELECT name, max(step) AS step, arg_max(value, step) AS value FROM metrics "
                "WHERE run_id = ? AND stage = ? GROUP BY name",
                [*place],
            )
        }
        for name, place in sides.items()
    }
    metrics = [metric for one in (*ranges.values(), *map(sorted, last.values())) for metric in one]
    rows = [{"name": metric} | {name: last[name].get(metric) for name in sides} for metric in dict.fromkeys(metrics)]
    return {"charts": [chart for chart in charts if chart], "metrics": rows, "left_out": max(0, len(in_all) - CURVES)}


def compared_difficulties(session: Session, sides: Mapping[str, Place]) -> dict[str, Any]:
    """Return the right answers of evaluations by difficulty, as a chart and rows.

    Args:
        sides: evaluations by their letters.
    """
    lines, shares = [], {}
    for name, place in sides.items():
        rows = session.rows(
            "SELECT difficulty, num_right, num_scored, mean_steps FROM difficulties "
            "WHERE run_id = ? AND stage = ? AND num_scored > 0 ORDER BY difficulty",
            [*place],
        )
        for row in rows:
            row["share"] = row["num_right"] / row["num_scored"]
            row["interval"] = wilson(row["share"], row["num_scored"])
        shares[name] = {row["difficulty"]: row for row in rows}
        points = [(float(row["difficulty"]), row["share"]) for row in rows]
        band = [(float(row["difficulty"]), *row["interval"]) for row in rows]
        lines.append(Series(f"{name}: {place[0]}", points, band, dots=True))
    levels = sorted({level for of_side in shares.values() for level in of_side})
    return {
        "charts": [line_chart("right sequences", lines, x_label="difficulty", y_range=(0.0, 1.0))],
        "difficulties": [(level, *(of_side.get(level) for of_side in shares.values())) for level in levels],
    }
