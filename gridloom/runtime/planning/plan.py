"""Plan of a run: each stage of a graph is cached or will run, with the reason. Executes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.diff import Change
from gridloom.compiler.diff_fields import Place
from gridloom.compiler.fingerprint import node_inputs
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.planning.finished_early import finished_text
from gridloom.runtime.planning.nearest_artifact import EarlierArtifacts, changes_since
from gridloom.stores.artifacts import ArtifactStore

State = Literal["cached", "run"]


def placed(change: Change) -> str:
    """Return a change as text, with the location of its new value in the spec."""
    return f"{change} ({change.span})" if change.span else str(change)


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """Stage with its planned state and the reasons."""

    node: StageNode
    state: State
    because: tuple[str, ...]
    """Names of input stages that will run."""
    changes: tuple[Change, ...]
    """Fields that differ from the nearest earlier artifact of this stage's name and kind."""
    is_new: bool = False
    """True if no artifact of this stage's name and kind was ever published."""
    resumes: bool = False
    """True if the work folder holds the state of an interrupted run."""
    other_inputs: tuple[str, ...] = ()
    """Fields whose input artifacts differ from those of the nearest earlier artifact."""

    @property
    def why(self) -> str:
        """Reason as one line of the plan table."""
        if self.state == "cached":
            return finished_text(self.node)
        if self.resumes:
            return "resumes where it was interrupted"
        if self.is_new:
            return "never run"
        if self.changes:
            shown = ", ".join(placed(change) for change in self.changes[:2])
            more = len(self.changes) - 2
            return shown + (f" and {more} more" if more > 0 else "")
        if self.because:
            return ", ".join(f"{name} changes" for name in self.because)
        if self.other_inputs:
            return f"reads another artifact as {', '.join(self.other_inputs)}"
        return "its artifact is gone"

    def expected_seconds(self, speeds: DeviceSpeeds | None) -> float | None:
        """Return the time that the stage is expected to take; None when that is not known, or it is cached."""
        if self.state == "cached" or speeds is None or self.node.cost is None:
            return None
        return speeds.seconds(self.node.cost)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Graph with the planned state of each node in order; the executor's input besides workspace and options."""

    graph: RunGraph
    stages: tuple[PlannedStage, ...]

    @property
    def num_to_run(self) -> int:
        """Number of stages that will run."""
        return sum(stage.state == "run" for stage in self.stages)


def make_plan(graph: RunGraph, store: ArtifactStore, place: Place = lambda node, path: None) -> RunPlan:
    """Look up every node's key in the artifact store; return which stages run, and why.

    `place` returns the location of a value in the spec: see `Compiled.place`.
    """
    planned: list[PlannedStage] = []
    running: set[str] = set()
    earlier = EarlierArtifacts(store)
    keys = {node.name: node.key for node in graph.nodes}
    for node in graph.nodes:
        if store.find(node.key) is not None:
            planned.append(PlannedStage(node, "cached", (), ()))
            continue
        running.add(node.name)
        because = tuple(sorted({name for name in node.inputs.values() if name in running}))
        inputs = node_inputs(node, keys)
        nearest = earlier.nearest(node, inputs, same_name=True)
        changes = () if nearest is None else changes_since(nearest, node, inputs, place)
        # an input that runs is named in `because`; the change of its key is not informative
        own = tuple(change for change in changes if not change.field.startswith("inputs."))
        other = tuple(change.field.removeprefix("inputs.") for change in changes if change not in own)
        resumes = any((store.workspace.work_dir / node.key.replace(":", "-")).glob("*"))
        planned.append(PlannedStage(node, "run", because, own, nearest is None, resumes, other))
    return RunPlan(graph, tuple(planned))
