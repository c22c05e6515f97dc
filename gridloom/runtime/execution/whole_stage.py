"""Stages as items: one that does not split, such as a training, runs as a whole in one worker of the crew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.execution.make_artifact import make_artifact
from gridloom.runtime.stage import SPLIT, Crew, Job, StageContext, load_stage
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace

PLACE = f"{__name__}:WholeStage"


def runs_whole(node: StageNode, crew: Crew) -> bool:
    """Return whether a worker runs a node as a whole.

    Stages that run no network stay with the driver; so does everything where workers do not see its disk.
    """
    return node.cost is not None and node.kind not in SPLIT and crew.shares_disk


class WholeStage:
    """Worker's half: prepares nothing, since the stage loads its own models."""

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> WholeStageWorker:
        """Return the object that runs the stage."""
        return WholeStageWorker(node, inputs, context, shared)


class WholeStageWorker:
    """Runner of one stage in a thread: messages of the driver, such as a stop, come in meanwhile."""

    slots = 1

    def __init__(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> None:
        self._node, self._inputs, self._context, self._shared = node, inputs, context, shared

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Run the stage and publish its artifact."""
        return await asyncio.to_thread(self._run)

    def _run(self) -> dict[str, Any]:
        context, node = self._context, self._node
        store = ArtifactStore(Workspace(Path(self._shared["root"])))
        make_artifact(
            load_stage(node.kind),
            node,
            self._inputs,
            context,
            store,
            self._shared["inputs_of_key"],
            self._shared["started_at"],
        )
        return {"notes": {}}


def run_whole(
    node: StageNode,
    inputs: Mapping[str, Artifact],
    context: StageContext,
    inputs_of_key: Mapping[str, Any],
    started_at: float,
    store: ArtifactStore,
) -> Artifact:
    """Have one worker of the crew run a stage and publish it.

    Raises StageInterrupted, StageError (three workers were lost with it), and the errors of the stage.
    """
    crew = context.crew
    assert crew is not None, "there are workers"
    job = Job.of(
        PLACE,
        node,
        inputs,
        context,
        {"inputs_of_key": dict(inputs_of_key), "started_at": started_at, "root": str(store.workspace.root)},
        alone=True,
    )
    aside = crew.run(job, [node.name], lambda item, lost: {}, lambda item, result: None, context.stop)
    if aside:
        raise StageError(
            f"{node.name} took three workers with it, which ended without a message, as when memory is short",
            "look into the folder workers of the workspace, and run the stage without --on",
        )
    artifact = store.find(node.key)
    if artifact is None:
        raise StageInterrupted(
            f"{node.name} stopped ({context.stop.reason})", "run the same command again: it resumes where it was"
        )
    context.notes.update(artifact.manifest["producer"].get("notes") or {})
    return artifact
