"""Commands that look into an engine: paths of its planning, texts of its concepts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import CheckpointArg, DeviceOption, HomeOption, JsonOption, SetOption, StageRunOption

EntryArg = Annotated[
    str, typer.Argument(metavar="DATA", help="A data entry of --spec, or a mapping: '{kind: sudoku, size: 4}'.")
]
SpecOption = Annotated[str | None, typer.Option("--spec", metavar="SPEC", help="The spec or recipe that has DATA.")]
RowsOption = Annotated[int, typer.Option("--rows", min=1, max=1000, help="Rows of the split.")]
SplitOption = Annotated[str, typer.Option("--split", help="train or test.")]


def paths(
    checkpoint: CheckpointArg,
    entry: EntryArg,
    spec: SpecOption = None,
    rows: RowsOption = 8,
    split: SplitOption = "test",
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
    from gridloom.runtime.execution.submission import check_target
    from gridloom.runtime.show.entries import find_entry
    from gridloom.stores.workspace import Workspace

    if png is not None:
        check_target(png, "--png", "paths.png")
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


def concepts(
    checkpoint: CheckpointArg,
    entry: EntryArg,
    spec: SpecOption = None,
    rows: RowsOption = 8,
    split: SplitOption = "test",
    built_from: Annotated[
        int, typer.Option("--from", min=1, max=1_000_000, help="Training rows that the table is built from.")
    ] = 1000,
    table: Annotated[
        Path | None, typer.Option("--table", metavar="FILE", help="Read this table instead of building one.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the table as JSON.")] = None,
    run: StageRunOption = None,
    overrides: SetOption = None,
    device: DeviceOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the text of an engine's concepts: what their patches showed in training rows, and rows read by it."""
    from gridloom.runtime.checkpoints.find import find_checkpoint
    from gridloom.runtime.execution.submission import check_target
    from gridloom.runtime.show.entries import find_entry
    from gridloom.stores.workspace import Workspace

    if save is not None:
        check_target(save, "--save", "table.json")
    folder = find_checkpoint(checkpoint, Workspace.find(home), run)
    found = find_entry(entry, spec, overrides or ())

    from gridloom.cli.show.paths import reading_rows  # loads torch
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.runtime.machine.device import resolve_device
    from gridloom.runtime.model_check.concept_table import ConceptTable
    from gridloom.runtime.model_check.loaded import load_engine, questions

    network = load_engine(folder, "has no concepts", resolve_device(device or "cpu"))
    if table is None:
        made = ConceptTable.of(network, questions(network, folder, found, built_from, "train").inputs)
    else:
        made = ConceptTable.load(table)
    readings = made.read(network, questions(network, folder, found, rows, split).inputs)
    if save is not None:
        made.save(save)
    if as_json:
        print(json.dumps([asdict(reading) for reading in readings], indent=1))
        return
    print_table(rows_table(reading_rows(readings)))
    share = sum(reading.right for reading in readings) / len(readings)
    print(f"{len(made.entries)} of {made.concepts} concepts have a text; {share:.1%} of the words are read right")
    if save is not None:
        print(f"wrote {save}")
