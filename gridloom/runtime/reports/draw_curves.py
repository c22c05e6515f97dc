"""Curves as PNG or SVG. Needs matplotlib, the extra `plots`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.optional_packages import needed
from gridloom.runtime.reports.curves import Curve, smoothed
from gridloom.stores.files.disk import storage_error
from gridloom.stores.files.write_aside import replacing

FORMATS = (".png", ".svg")


def draw_curves(path: Path, metric: str, curves: Sequence[Curve], *, span: int = 1, log: bool = False) -> None:
    """Write a figure with a line for each curve, whole or not at all; equal curves give equal bytes of SVG.

    Args:
        span: number of values that each point is the mean of.
        log: whether the values' axis is logarithmic.

    Raises:
        GridloomError: the file's name has another ending, or matplotlib is not installed.
        StoreError: the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise GridloomError(f"{path} is neither PNG nor SVG", "name a file such as loss.png")
    with needed("matplotlib", "plots", "drawing a figure", "leave --out out: the terminal draws"):
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with mpl.rc_context({"svg.hashsalt": "gridloom"}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for curve in curves:
            axes.plot(curve.steps, smoothed(curve.values, span), label=curve.label, linewidth=1.2)
        axes.set_xlabel("step")
        axes.set_ylabel(metric if span == 1 else f"{metric}, mean of {span}")
        if log:
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        try:
            with replacing(path) as aside:
                kind = path.suffix.lower().removeprefix(".")
                figure.savefig(aside, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
        except OSError as error:
            raise storage_error(error, "write the figure", path) from error
