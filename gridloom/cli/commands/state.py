"""Commands that carry a training from one machine to another: state export|import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridloom.cli.options import HomeOption, SetOption, SpecArg
from gridloom.errors import GridloomError

if TYPE_CHECKING:
    from gridloom.compiler.graph import RunGraph, StageNode

state = typer.Typer(
    help="Carry a training that is under way to another machine.", no_args_is_help=True, rich_markup_mode=None
)


@state.command("export")
def export_command(
    spec: SpecArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty; written whole or not at all.")],
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Default: the one stage that has a state.")
    ] = None,
    overrides: SetOption = None,
    home: HomeOption = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="Size of a file at most, in MiB.")] = 16,
) -> None:
    """Write the newest state of a training stage as files of a limited size."""
    from gridloom.runtime.execution.run_locks import stage_lock
    from gridloom.runtime.training.state import saved_steps
    from gridloom.runtime.training.state_transfer import write_out
    from gridloom.stores.artifacts import ArtifactStore
    from gridloom.stores.vacant import check_vacant, filling
    from gridloom.stores.workspace import Workspace

    check_vacant(folder)
    workspace = Workspace.find(home)
    store, graph = ArtifactStore(workspace), _graph(spec, overrides)
    if stage is None:
        under_way = [node.name for node in graph.nodes if saved_steps(store.work_path(node.key))]
        if len(under_way) != 1:
            if under_way:
                raise GridloomError(
                    f"{len(under_way)} stages have a training state: {', '.join(under_way)}", "name one with --stage"
                )
            raise GridloomError(
                f"no stage of {spec} has a training state in {workspace.root}",
                "a stage has one from its first checkpoint until it is done",
            )
        stage = under_way[0]
    node = _node(graph, stage)
    with stage_lock(workspace, node), filling(folder) as aside:
        carried = write_out(node, store.work_path(node.key), aside, max_mb * 2**20)
    size = f"{carried.num_bytes / 2**20:.1f} MiB in {carried.num_parts} part(s)"
    print(f"{carried.stage}: step {carried.step:,}, {size}, in {folder}")
    print(f"go on elsewhere with: gridloom state import {spec} {folder}")


@state.command("import")
def import_command(
    spec: SpecArg,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What `gridloom state export` wrote.")],
    overrides: SetOption = None,
    home: HomeOption = None,
) -> None:
    """Put an exported state where the next `gridloom run` of the same spec goes on from it."""
    from gridloom.runtime.execution.run_locks import stage_lock
    from gridloom.runtime.training.state_transfer import stage_of, take_in
    from gridloom.stores.artifacts import ArtifactStore
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    store, node = ArtifactStore(workspace), _node(_graph(spec, overrides), stage_of(folder))
    if store.find(node.key) is not None:
        raise GridloomError(
            f"stage {node.name!r} is done here ({node.key}); there is nothing to go on with",
            f"see it with: gridloom plan {spec}",
        )
    with stage_lock(workspace, node):
        carried = take_in(folder, node, store.work_dir(node.key))
    again = " ".join(["gridloom run", spec, *(f"--set {value}" for value in overrides or ())])
    print(f"{carried.stage}: step {carried.step:,} is here; go on with: {again}")


def _graph(spec: str, overrides: list[str] | None) -> RunGraph:
    from gridloom.runtime.planning.local import compile_local

    return compile_local(spec, overrides or ()).graph


def _node(graph: RunGraph, stage: str) -> StageNode:
    for node in graph.nodes:
        if node.name == stage:
            return node
    raise GridloomError(f"the spec has no stage {stage!r}", f"it has {', '.join(node.name for node in graph.nodes)}")


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(state, name="state")
