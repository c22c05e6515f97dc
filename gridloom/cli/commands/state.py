"""Commands that move a training state from one machine to another: state export|import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import HomeOption, SetOption, SpecArg

state = typer.Typer(help="Move an unfinished training to another machine.", no_args_is_help=True, rich_markup_mode=None)


@state.command("export")
def export_command(
    spec: SpecArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")],
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Default: the only stage with a state.")
    ] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Maximum size of a file, in MiB.")] = 16,
) -> None:
    """Write the newest state of a training stage as files of a limited size."""
    from gridloom.runtime.execution.carry_state import export_state
    from gridloom.runtime.planning.local import compile_local
    from gridloom.stores.workspace import Workspace

    graph = compile_local(spec, overrides or ()).graph
    carried = export_state(spec, graph, Workspace.find(home), stage, folder, max_mb * 2**20)
    size = f"{carried.num_bytes / 2**20:.1f} MiB in {carried.num_parts} part(s)"
    print(f"{carried.stage}: step {carried.step:,}, {size}, in {folder}")
    print(f"resume elsewhere with: gridloom state import {spec} {folder}")


@state.command("import")
def import_command(
    spec: SpecArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder written by `gridloom state export`.")],
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Put an exported state where the next `gridloom run` of the same spec resumes from it."""
    from gridloom.runtime.execution.carry_state import import_state
    from gridloom.runtime.planning.local import compile_local
    from gridloom.stores.workspace import Workspace

    graph = compile_local(spec, overrides or ()).graph
    carried = import_state(spec, graph, Workspace.find(home), folder)
    again = " ".join(["gridloom run", spec, *(f"--set {value}" for value in overrides or ())])
    print(f"{carried.stage}: step {carried.step:,} is here; resume with: {again}")


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(state, name="state")
