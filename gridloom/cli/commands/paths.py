"""Command that shows latent planning: paths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import CheckpointArg, DeviceOption, HomeOption, JsonOption, SetOption, StageRunOption


def paths(
    checkpoint: CheckpointArg,
    entry: Annotated[
        str, typer.Argument(metavar="DATA", help="A data entry of --spec, or a mapping: '{kind: sudoku, size: 4}'.")
    ],
    spec: Annotated[
        str | None, typer.Option("--spec", metavar="SPEC", help="The spec or recipe that has DATA.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, max=1000, help="Rows of the split.")] = 8,
    split: Annotated[str, typer.Option("--split", help="train or test.")] = "test",
    every_step: Annotated[bool, typer.Option("--every-step", help="Print all ACT steps, not the last alone.")] = False,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw the last ACT step.")] = None,
    run: StageRunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how an engine plans: weights and values of its paths, gate, chosen path, norms of the thoughts."""
    from gridloom.runtime.checkpoints.find import find_checkpoint
    from gridloom.runtime.show.entries import find_entry
    from gridloom.stores.workspace import Workspace

    folder = find_checkpoint(checkpoint, Workspace.find(home), run)
    found = find_entry(entry, spec, overrides or ())

    from gridloom.cli.show.paths import path_rows  # loads torch
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.runtime.machine.device import resolve_device
    from gridloom.runtime.model_check.paths import draw_paths, paths_of

    records = paths_of(folder, found, rows, split, resolve_device(device or "cpu"))
    if png is not None:
        draw_paths(records, png)
    if as_json:
        print(json.dumps([record.to_json() for record in records], indent=1))
        return
    print_table(rows_table(path_rows(records, every_step)))
    if png is not None:
        print(f"wrote {png}")
