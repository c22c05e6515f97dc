"""Publication of a state of an interrupted training as a checkpoint that is marked as finished early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gridloom.compiler.fingerprint import graph_key
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import GridloomError
from gridloom.progress import Progress
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.run_locks import stage_lock
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.finished_early import training_node, with_fact
from gridloom.runtime.planning.local import spec_base
from gridloom.runtime.planning.plan import PlannedStage, RunPlan
from gridloom.runtime.stage import StageContext
from gridloom.runtime.training.finish import describe_state, publish_state
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace

Weights = Literal["best", "newest"]


@dataclass(frozen=True, slots=True)
class FinishedEarly:
    """Summary of a training that was finished early."""

    stage: str
    step: int
    of_steps: int
    weights: Weights
    key: str
    is_new: bool
    """False if this state had been published before."""


@dataclass(frozen=True, slots=True)
class _Finish:
    """Runner that publishes a state in place of training."""

    whole: StageNode
    """Node of the whole training, whose key the states have."""
    work: Path
    step: int

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write the bundle of the state."""
        publish_state(self.whole, node, self.work, self.step, inputs, context)


def finish_early(
    spec: str,
    graph: RunGraph,
    workspace: Workspace,
    stage: str,
    weights: Weights | None,
    progress: Progress,
    overrides: Sequence[str] = (),
    device: str | None = None,
) -> FinishedEarly:
    """Publish the best or the newest state of an interrupted training under a key of its own; the state is kept.

    Args:
        weights: which state; by default the best where the training has chosen one so far, else the newest.

    Raises:
        GridloomError: no such training, it is done, it has no state, no best state, or its inputs are not published.
        StageError: another process is running the training, or the state is damaged.
    """
    store, node = ArtifactStore(workspace), training_node(graph, stage)
    if store.find(node.key) is not None:
        raise GridloomError(
            f"stage {stage!r} is done here ({node.key}); there is nothing to finish",
            f"see it with: gridloom plan {spec}",
        )
    with stage_lock(workspace, node):
        work = store.work_path(node.key)
        found = describe_state(node, work, weights)
        planned_steps = int(node.spec["steps"])
        fact = {"step": found.step, "of_steps": planned_steps, "weights": found.weights, "state": found.sha256}
        early = with_fact(graph, stage, fact)
        target = early.node(stage)
        summary = FinishedEarly(stage, found.step, planned_steps, found.weights, target.key, True)
        if store.find(target.key) is not None:
            return FinishedEarly(stage, found.step, planned_steps, found.weights, target.key, False)
        nodes = _behind(early, stage)
        for one in nodes[:-1]:
            if store.find(one.key) is None:
                raise GridloomError(
                    f"{one.name!r}, which {stage!r} reads, is not published here",
                    f"run the spec once: gridloom run {spec}",
                )
        part = early.model_copy(update={"nodes": nodes, "variants": (), "key": graph_key(one.key for one in nodes)})
        stages = tuple(
            PlannedStage(one, "run" if one.name == stage else "cached", (), (), is_new=one.name == stage)
            for one in nodes
        )
        options = RunOptions(base=spec_base(spec), spec=spec, overrides=tuple(overrides), device=device)
        runner = _Finish(node, work, found.step)
        execute(RunPlan(part, stages), workspace, options, progress, StopFlag(), lambda kind: runner)
    return summary


def _behind(graph: RunGraph, stage: str) -> tuple[StageNode, ...]:
    """Return a node and all that it reads, in the graph's order, the node last."""
    wanted = {stage}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs.values())
    return tuple(node for node in graph.nodes if node.name in wanted)
