"""Commands on an unfinished training: state export|import to another machine, stage finish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from gridloom.cli.command_line import command_line
from gridloom.cli.options import DeviceOption, HomeOption, SetOption, SpecArg

stage_app = typer.Typer(help="Finish an interrupted training early.", no_args_is_help=True, rich_markup_mode=None)
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
    from gridloom.runtime.planning.local import compile_local
    from gridloom.stores.workspace import Workspace

    graph = compile_local(spec, overrides or ()).graph
    from gridloom.runtime.execution.carry_state import export_state  # loads torch: a wrong spec is refused before

    carried = export_state(spec, graph, Workspace.find(home), stage, folder, max_mb * 2**20)
    size = f"{carried.num_bytes / 2**20:.1f} MiB in {carried.num_parts} part(s)"
    print(f"{carried.stage}: step {carried.step:,}, {size}, in {folder}")
    print(f"resume elsewhere with: {command_line('state import', spec, overrides, folder)}")


@state.command("import")
def import_command(
    spec: SpecArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder written by `gridloom state export`.")],
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Put an exported state where the next `gridloom run` of the same spec resumes from it."""
    from gridloom.runtime.planning.local import compile_local
    from gridloom.stores.workspace import Workspace

    graph = compile_local(spec, overrides or ()).graph
    from gridloom.runtime.execution.carry_state import import_state  # loads torch

    carried = import_state(spec, graph, Workspace.find(home), folder)
    again = command_line("run", spec, overrides, home=home)
    print(f"{carried.stage}: step {carried.step:,} is here; resume with: {again}")


@stage_app.command("finish")
def finish_command(
    spec: SpecArg,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="A train or joint_train stage that was interrupted.")],
    overrides: SetOption = None,
    best: Annotated[bool, typer.Option("--best", help="The best state by validate or keep_best so far.")] = False,
    newest: Annotated[bool, typer.Option("--newest", help="The newest state; default: the best, if any.")] = False,
    home: HomeOption = None,
    device: DeviceOption = None,
) -> None:
    """Publish what an interrupted training has learnt so far, marked as finished early, under a key of its own.

    `gridloom run SPEC --finished-early STAGE` uses it; `gridloom run SPEC` goes on with the training.
    """
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.errors import GridloomError
    from gridloom.runtime.planning.finished_early import training_node
    from gridloom.runtime.planning.local import compile_local
    from gridloom.stores.workspace import Workspace

    if best and newest:
        raise GridloomError("--best and --newest are two states", "give one of them, or neither")
    graph = compile_local(spec, overrides or ()).graph
    training_node(graph, stage)
    from gridloom.runtime.execution.finish_early import finish_early  # loads torch

    weights: Literal["best", "newest"] | None = "best" if best else "newest" if newest else None
    progress = reporter(Terminal(), quiet=True)
    made = finish_early(spec, graph, Workspace.find(home), stage, weights, progress, overrides or (), device)
    done = "published" if made.is_new else "published before"
    print(f"{made.stage}: the {made.weights} weights, of step {made.step:,} of {made.of_steps:,}, {done} as {made.key}")
    use = command_line("run", spec, overrides, finished_early=[made.stage], home=home, device=device)
    print(f"use them with: {use}")
    print(f"go on training with: {command_line('run', spec, overrides, home=home, device=device)}")


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(state, name="state")
    app.add_typer(stage_app, name="stage")
