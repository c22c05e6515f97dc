"""Command that draws metrics: plot, on the terminal, as a figure, or for TensorBoard."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.complete import complete_metrics, complete_runs
from gridloom.cli.options import HomeOption, JsonOption


def plot(
    metric: Annotated[
        str | None,
        typer.Argument(metavar="METRIC", help="Such as loss; none: list the metrics.", autocompletion=complete_metrics),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run", metavar="RUN", help="Several may be given; default: the newest.", autocompletion=complete_runs
        ),
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option("--stage", metavar="STAGE", help="Only this stage; several may be given.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write a .png or .svg; needs gridloom[plots].")
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            "--tensorboard",
            metavar="FOLDER",
            help="Write event files of all metrics, or of METRIC; needs gridloom[tensorboard].",
        ),
    ] = None,
    smooth: Annotated[int, typer.Option("--smooth", metavar="N", min=1, help="Draw the mean of N values.")] = 1,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic values.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a metric of trainings over their steps: stages of a sweep and several runs in one plot."""
    import shlex
    import sys

    from gridloom.runtime.reports.curves import metric_names, read_curves
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    if metric is None and tensorboard is None:
        names = metric_names(ledger, [find_run(one, ledger) for one in run or ()])
        print(json.dumps(names) if as_json else "\n".join(names))
        return
    curves = read_curves(ledger, metric, run or (), stage or ())
    if tensorboard is not None:
        from gridloom.runtime.reports.tensorboard import write_events

        made = write_events(tensorboard, curves)
        print(f"wrote {len(curves)} metrics of {', '.join(made)}")
        print(f"see them with: {shlex.join(['tensorboard', '--logdir', str(tensorboard)])}")
        return
    assert metric is not None
    if as_json:
        print(json.dumps([asdict(curve) for curve in curves[metric]], indent=1))
        return
    if out is not None:
        from gridloom.runtime.reports.draw_curves import draw_curves

        draw_curves(out, metric, curves[metric], span=smooth, log=log)
        print(f"wrote {out}")
        return
    from gridloom.cli.show.plot import plot_lines
    from gridloom.cli.show.terminal import Terminal

    console = Terminal()
    width = console.width if sys.stdout.isatty() else 80
    for line in plot_lines(metric, curves[metric], width, span=smooth, log=log):
        console.print(line, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command()(plot)
