"""Export and import of a training state between workspaces: choice of the stage, locks, and checks of the target."""

from __future__ import annotations

from pathlib import Path

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import GridloomError
from gridloom.runtime.execution.run_locks import stage_lock
from gridloom.runtime.training.state import saved_steps
from gridloom.runtime.training.state_transfer import TransferredState, export_files, import_files, stage_of
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.files.vacant import check_vacant, filling
from gridloom.stores.workspace import Workspace


def export_state(
    spec: str, graph: RunGraph, workspace: Workspace, stage: str | None, folder: Path, max_bytes: int
) -> TransferredState:
    """Write the newest training state of a stage into an empty or new folder.

    Args:
        spec: the spec as the user typed it, for messages.
        stage: name of the stage; None for the only stage with a state.
        max_bytes: largest size of one file.

    Raises:
        GridloomError: the spec has no such stage, no stage or several stages have a state, or `folder` is not empty.
    """
    check_vacant(folder)
    store = ArtifactStore(workspace)
    node = _node(graph, stage) if stage is not None else _only_node_with_state(spec, graph, store)
    with stage_lock(workspace, node), filling(folder) as aside:
        return export_files(node, store.work_path(node.key), aside, max_bytes)


def import_state(spec: str, graph: RunGraph, workspace: Workspace, folder: Path) -> TransferredState:
    """Import an exported state, from which the next run of the same spec resumes.

    Raises GridloomError if the spec has no such stage, its artifact is published, or the state does not fit.
    """
    store, node = ArtifactStore(workspace), _node(graph, stage_of(folder))
    if store.find(node.key) is not None:
        raise GridloomError(
            f"stage {node.name!r} is done here ({node.key}); there is nothing to resume",
            f"see it with: gridloom plan {spec}",
        )
    with stage_lock(workspace, node):
        return import_files(folder, node, store.work_dir(node.key))


def _only_node_with_state(spec: str, graph: RunGraph, store: ArtifactStore) -> StageNode:
    under_way = [node for node in graph.nodes if saved_steps(store.work_path(node.key))]
    if len(under_way) > 1:
        raise GridloomError(
            f"{len(under_way)} stages have a training state: {', '.join(node.name for node in under_way)}",
            "name one with --stage",
        )
    if not under_way:
        raise GridloomError(
            f"no stage of {spec} has a training state in {store.workspace.root}",
            "a stage has one from its first checkpoint until it is done",
        )
    return under_way[0]


def _node(graph: RunGraph, stage: str) -> StageNode:
    for node in graph.nodes:
        if node.name == stage:
            return node
    raise GridloomError(f"the spec has no stage {stage!r}", f"it has {', '.join(node.name for node in graph.nodes)}")
