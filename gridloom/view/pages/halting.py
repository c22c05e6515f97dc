"""Halting: the plots of a halting study from its rows in the ledger."""

from __future__ import annotations

from typing import Any

from gridloom.errors import GridloomError
from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.reader import Session

NAMES = {
    "fixed": "fixed steps",
    "own": "own halting",
    "score": "halting score",
    "confidence": "confidence",
    "residual": "residual",
    "unchanged": "answer unchanged",
}
FEWEST = 5
"""Rows behind a point of the plot over difficulty; with fewer it is left out where others have more."""

Rows = list[dict[str, Any]]


def halting_page(session: Session, run: str = "", stage: str = "") -> dict[str, Any]:
    """Return the plots of a study, by default of the latest. Raises GridloomError for an unknown one."""
    studies = session.rows(
        "SELECT DISTINCT h.run_id, h.stage, r.started_at FROM halting_study h LEFT JOIN runs r USING (run_id) "
        "ORDER BY r.started_at DESC NULLS LAST, h.run_id DESC, h.stage"
    )
    if not studies:
        return {"studies": [], "chosen": None, "plots": [], "figures": []}
    chosen = next(
        (row for row in studies if run in ("", row["run_id"]) and stage in ("", row["stage"])),
        None,
    )
    if chosen is None:
        raise GridloomError(f"no halting study '{stage}' in run '{run}'", "the page Halting lists all")
    rows = session.rows(
        "FROM halting_study WHERE run_id = ? AND stage = ? ORDER BY part, series, place",
        [chosen["run_id"], chosen["stage"]],
    )
    return {"studies": studies, "chosen": chosen, "plots": plots(rows), "figures": _of(rows, "calibration")}


def plots(rows: Rows) -> list[tuple[str, Any]]:
    """Return (title, chart) of each part of a study that has rows."""
    found = [
        ("Exact answers against allowed steps", _steps(rows)),
        ("Exact answers against mean steps", _cost(rows)),
        ("Gain of halting over fixed steps of equal cost", _gain(rows)),
        *(
            ("Steps against " + measure.replace("_", " "), _difficulty(rows, measure))
            for measure in _series(rows, "difficulty")
        ),
        ("Reliability of the signals", _reliability(rows)),
        ("Residual by step", _residual(rows)),
    ]
    return [(title, chart) for title, chart in found if chart]


def _of(rows: Rows, part: str, series: str | None = None) -> Rows:
    return [row for row in rows if row["part"] == part and series in (None, row["series"])]


def _series(rows: Rows, part: str) -> list[str]:
    return list(dict.fromkeys(row["series"] for row in _of(rows, part)))


def _points(rows: Rows, x: str, y: str) -> list[tuple[float, float]]:
    return [(row[x], row[y]) for row in rows if row[x] is not None and row[y] is not None]


def _band(rows: Rows, x: str) -> list[tuple[float, float, float]]:
    return [(row[x], row["low"], row["high"]) for row in rows if row["low"] is not None and row["high"] is not None]


def _steps(rows: Rows) -> Any:
    lines = [
        Series(NAMES[series], _points(part, "x", "exact"), _band(part, "x"), dots=True)
        for series in ("fixed", "own")
        if (part := _of(rows, "steps", series))
    ]
    return line_chart("exact answers", lines, x_label="allowed steps", y_range=(0.0, 1.0))


def _cost(rows: Rows) -> Any:
    lines = [
        Series(NAMES[series], sorted(_points(part, "mean_steps", "exact")), dots=True)
        for series in ("fixed", "own")
        if (part := _of(rows, "steps", series))
    ]
    lines += [
        Series(
            NAMES.get(series, series), sorted(_points(_of(rows, "threshold", series), "mean_steps", "exact")), dots=True
        )
        for series in _series(rows, "threshold")
    ]
    return line_chart("exact answers", lines, x_label="mean steps", y_range=(0.0, 1.0))


def _gain(rows: Rows) -> Any:
    own = _of(rows, "gain", "own")
    return line_chart(
        "gain", [Series("own halting", _points(own, "x", "value"), _band(own, "x"), dots=True)], x_label="allowed steps"
    )


def _difficulty(rows: Rows, measure: str) -> Any:
    part = _of(rows, "difficulty", measure)
    part = [row for row in part if row["n"] >= FEWEST] or part
    lines = [
        Series("mean steps", _points(part, "x", "mean_steps"), dots=True),
        Series("steps needed", _points(part, "x", "value"), dots=True),
    ]
    return line_chart("steps", [one for one in lines if one.points], x_label=measure.replace("_", " "))


def _reliability(rows: Rows) -> Any:
    lines = [Series("ideal", [(0.0, 0.0), (1.0, 1.0)])]
    for series in _series(rows, "reliability"):
        lines.append(Series(series, _points(_of(rows, "reliability", series), "value", "exact"), dots=True))
    if len(lines) == 1:
        return None
    return line_chart("right answers", lines, x_label="signal", y_range=(0.0, 1.0))


def _residual(rows: Rows) -> Any:
    lines = []
    for series in ("right", "wrong"):
        part = _of(rows, "residual", series)
        if part:
            lines.append(Series(f"{series} at the last step", _points(part, "x", "value"), _band(part, "x"), dots=True))
    return line_chart("median residual", lines, x_label="step", log_y=True) if lines else None
