"""Figures of a halting study as PNG and SVG, drawn from its report. Needs matplotlib, the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]

SIZE = (6.0, 4.0)
"""Width and height in inches."""
FEWEST = 5
"""Rows of a group that is drawn against difficulty; the tables have smaller ones too."""
COLOURS = {
    "fixed": "#444444",
    "own": "#d62728",
    "score": "#ff7f0e",
    "confidence": "#2ca02c",
    "residual": "#1f77b4",
    "unchanged": "#9467bd",
}
NAMES = {
    "fixed": "fixed steps",
    "own": "own halting",
    "score": "halting score above a threshold",
    "confidence": "confidence above a threshold",
    "residual": "residual below a threshold",
    "unchanged": "answer unchanged",
}
SIGNALS = {
    "q": "halting probability, last step",
    "q_at_halt": "halting probability, step of the halt",
    "confidence": "mean confidence of a position",
    "confidence_all": "product of confidences",
}
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "gridloom",  # else every drawing of the same figures is another file
    "svg.fonttype": "none",
}


def draw(report: Mapping[str, Any], out: Path) -> list[Path]:
    """Draw the figures of a report into a folder; return the files."""
    made: list[Path] = []
    with mpl.rc_context(STYLE):
        for name, figure in (
            ("accuracy", _accuracy(report)),
            ("cost", _cost(report)),
            ("difficulty", _difficulty(report)),
            ("calibration", _calibration(report)),
            ("residual", _residual(report)),
        ):
            if figure is None:
                continue
            figure.tight_layout()
            for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
                path = out / f"{name}.{kind}"
                figure.savefig(path, format=kind, dpi=120, metadata=metadata)
                made.append(path)
    return made


def _rows(report: Mapping[str, Any], part: str, series: str | None = None) -> list[Mapping[str, Any]]:
    return [row for row in report["rows"] if row["part"] == part and series in (None, row["series"])]


def _series(rows: Rows) -> list[str]:
    return list(dict.fromkeys(str(row["series"]) for row in rows))


def _figure(columns: int = 1) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(SIZE[0] * (1 if columns == 1 else 0.75 * columns), SIZE[1]))
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, columns, number + 1) for number in range(columns)]


def _title(report: Mapping[str, Any]) -> str:
    studied, data = report["studied"], report["data"]
    return f"{studied['kind']} on {data['kind']}, {report['num_rows']:,} test rows"


def _accuracy(report: Mapping[str, Any]) -> Figure:
    """Exact answers against allowed steps, of fixed steps and own halting, with 95% intervals."""
    figure, (axes,) = _figure()
    for series in ("fixed", "own"):
        rows = _rows(report, "steps", series)
        x = [row["x"] for row in rows]
        axes.plot(x, [row["exact"] for row in rows], "o-", ms=3, color=COLOURS[series], label=NAMES[series])
        low, high = ([row[bound] for row in rows] for bound in ("low", "high"))
        axes.fill_between(x, low, high, color=COLOURS[series], alpha=0.15, lw=0)
    axes.set(xlabel="allowed steps", ylabel="exact answers", title=_title(report), ylim=(-0.02, 1.02))
    axes.legend()
    return figure


def _cost(report: Mapping[str, Any]) -> Figure:
    """Exact answers against mean steps: the curve of fixed steps, and what rules of halting reach."""
    figure, (axes,) = _figure()
    for series in ("fixed", "own"):
        rows = _rows(report, "steps", series)
        style = "o-" if series == "fixed" else "s"
        axes.plot(*_points(rows), style, ms=4, color=COLOURS[series], label=NAMES[series])
    for series in _series(_rows(report, "threshold")):
        style = "^" if series == "unchanged" else ".-"
        axes.plot(*_points(_rows(report, "threshold", series)), style, color=COLOURS[series], label=NAMES[series], lw=1)
    axes.set(xlabel=f"mean {report['cost']}", ylabel="exact answers", title=_title(report), ylim=(-0.02, 1.02))
    axes.legend()
    return figure


def _points(rows: Rows) -> tuple[list[float], list[float]]:
    ordered = sorted(rows, key=lambda row: float(row["mean_steps"]))
    return [row["mean_steps"] for row in ordered], [row["exact"] for row in ordered]


def _difficulty(report: Mapping[str, Any]) -> Figure | None:
    """Mean steps, needed steps and exact answers against each measure of difficulty."""
    measures = _series(_rows(report, "difficulty"))
    if not measures:
        return None
    figure, places = _figure(len(measures))
    for axes, measure in zip(places, measures, strict=True):
        rows = _rows(report, "difficulty", measure)
        rows = [row for row in rows if row["n"] >= FEWEST] or rows
        x = [row["x"] for row in rows]
        axes.plot(x, [row["mean_steps"] for row in rows], "o-", ms=3, color=COLOURS["own"], label="mean steps")
        needed = [row for row in rows if "value" in row]
        if needed:
            values = [row["value"] for row in needed]
            axes.plot([row["x"] for row in needed], values, ".--", color=COLOURS["fixed"], label="steps needed")
        axes.set(xlabel=measure.replace("_", " "), ylabel="steps", title=_title(report) if len(measures) == 1 else "")
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        share = axes.twinx()
        share.plot(x, [row["exact"] for row in rows], "s:", ms=3, color=COLOURS["residual"], label="exact answers")
        share.set(ylim=(-0.02, 1.02), ylabel="exact answers")
        share.grid(visible=False)
        lines = [*axes.get_lines(), *share.get_lines()]
        axes.legend(lines, [line.get_label() for line in lines], fontsize=7)
    return figure


def _calibration(report: Mapping[str, Any]) -> Figure:
    """Reliability diagrams of the signals that can be read as probabilities."""
    figure, (axes,) = _figure()
    axes.plot([0, 1], [0, 1], color="#888888", lw=1, ls="--")
    errors = {row["series"]: row.get("value") for row in _rows(report, "calibration")}
    most = max((row["n"] for row in _rows(report, "reliability")), default=1)
    for series in _series(_rows(report, "reliability")):
        rows = _rows(report, "reliability", series)
        x, y = [row["value"] for row in rows], [row["exact"] for row in rows]
        auc = errors.get(f"{series}.auc")
        label = f"{SIGNALS[series]}: ECE {errors[f'{series}.ece']:.3f}" + ("" if auc is None else f", AUC {auc:.3f}")
        (line,) = axes.plot(x, y, "-", lw=1, label=label)
        axes.scatter(x, y, s=[8 + 60 * row["n"] / most for row in rows], color=line.get_color())
    axes.set(xlabel="signal", ylabel="right answers", title=_title(report), xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.legend(fontsize=7)
    return figure


def _residual(report: Mapping[str, Any]) -> Figure | None:
    """Median residual of rows that are right, and wrong, at the last step, with quartiles."""
    if not _rows(report, "residual"):
        return None
    figure, (axes,) = _figure()
    for series, colour in (("right", COLOURS["confidence"]), ("wrong", COLOURS["own"])):
        rows = _rows(report, "residual", series)
        if not rows:
            continue
        x = [row["x"] for row in rows]
        axes.plot(x, [row["value"] for row in rows], "o-", ms=3, color=colour, label=f"{series} at the last step")
        axes.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="step", ylabel="residual (root mean square)", title=_title(report), yscale="log")
    axes.legend()
    return figure
