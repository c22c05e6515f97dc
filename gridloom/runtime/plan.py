"""What a run will do and why: each stage of a graph is cached, or will run because of something. Executes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from gridloom.compiler.diff import Change, diff_key_inputs
from gridloom.compiler.fingerprint import key_inputs
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.stores.artifacts import ArtifactStore

State = Literal["cached", "run"]


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage and what the executor will do with it."""

    node: StageNode
    state: State
    because: tuple[str, ...]
    """Names of input stages that will run."""
    changes: tuple[Change, ...]
    """Fields that differ from the nearest earlier artifact of this stage's name and kind."""
    is_new: bool = False
    """No artifact of this stage's name and kind was ever published."""
    resumes: bool = False
    """State of an interrupted run is waiting in the work folder."""

    @property
    def why(self) -> str:
        """One line for the plan table."""
        if self.state == "cached":
            return ""
        if self.resumes:
            return "resumes where it was interrupted"
        if self.is_new:
            return "never run"
        if self.changes:
            shown = ", ".join(str(change) for change in self.changes[:2])
            more = len(self.changes) - 2
            return shown + (f" and {more} more" if more > 0 else "")
        if self.because:
            return ", ".join(f"{name} changes" for name in self.because)
        return "its artifact is gone"


@dataclass(frozen=True, slots=True)
class Plan:
    """The executor's only input beside where to work: the graph and, for each node in order, its planned state."""

    graph: RunGraph
    stages: tuple[PlannedStage, ...]

    @property
    def num_to_run(self) -> int:
        """Stages that will run."""
        return sum(stage.state == "run" for stage in self.stages)


def make_plan(graph: RunGraph, store: ArtifactStore) -> Plan:
    """Look up every node's key in the artifact store and say what will run, and why."""
    planned: list[PlannedStage] = []
    running: set[str] = set()
    earlier = _earlier_key_inputs(store)
    for node in graph.nodes:
        if store.find(node.key) is not None:
            planned.append(PlannedStage(node, "cached", (), ()))
            continue
        running.add(node.name)
        because = tuple(sorted({name for name in node.inputs.values() if name in running}))
        before = earlier.get((node.name, node.kind))
        changes = () if before is None else _own_changes(before, key_inputs(graph, node))
        resumes = any((store.workspace.work_dir / node.key.replace(":", "-")).glob("*"))
        planned.append(PlannedStage(node, "run", because, changes, before is None, resumes))
    return Plan(graph, tuple(planned))


def _earlier_key_inputs(store: ArtifactStore) -> dict[tuple[str, str], dict[str, Any]]:
    newest: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
    for artifact in store.all():
        producer = artifact.manifest.get("producer", {})
        inputs = producer.get("key_inputs")
        if inputs is None:
            continue
        name = (str(producer.get("stage")), str(producer.get("kind")))
        made = float(artifact.manifest.get("created_at", 0.0))
        if name not in newest or made > newest[name][0]:
            newest[name] = (made, inputs)
    return {name: inputs for name, (_, inputs) in newest.items()}


def _own_changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[Change, ...]:
    # a changed input is told by `because`; its key says nothing to a person
    return tuple(change for change in diff_key_inputs(before, after) if not change.field.startswith("inputs."))


def nearest_key_inputs(store: ArtifactStore, node: StageNode) -> dict[str, Any] | None:
    """Return what the key of the newest artifact of this stage's name and kind covers; None when there is none."""
    return _earlier_key_inputs(store).get((node.name, node.kind))
