"""Graphs of small stages, and a stage factory that notes what ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from gridloom.cli.show.progress import Reporter
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.plan import RunPlan, make_plan
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.workspace import Workspace

Body = Callable[[StageNode, Mapping[str, Artifact], StageContext], None]


def node(name: str, key: str, inputs: dict[str, str] | None = None, kind: str = "train") -> StageNode:
    return StageNode(
        name=name,
        kind=kind,
        version=1,
        produces="checkpoint",
        spec={"kind": kind, "steps": 3},
        inputs=inputs or {},
        key=f"gl1:{key}",
    )


def graph(*nodes: StageNode, key: str = "gl1:graph") -> RunGraph:
    return RunGraph(name="test", seed=0, device="cpu", nodes=nodes, key=key)


TWO = graph(node("first", "1"), node("second", "2", {"model": "first"}))


class Recorder:
    """A stage factory whose stages note that they ran, write one file, and then do what `body` says."""

    def __init__(self, body: Body | None = None) -> None:
        self.ran: list[str] = []
        self._body = body

    def __call__(self, kind: str) -> Recorder:
        return self

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        self.ran.append(node.name)
        (context.out / "made.txt").write_text(node.name + "".join(sorted(inputs)))
        if self._body is not None:
            self._body(node, inputs, context)


def run(
    graph: RunGraph,
    workspace: Workspace,
    factory: Recorder,
    stop: StopFlag | None = None,
    plan: RunPlan | None = None,
) -> RunResult:
    """Execute a graph, by a plan that was made before or one made now."""
    plan = make_plan(graph, ArtifactStore(workspace)) if plan is None else plan
    options = RunOptions(base=Path(), spec="test.yaml")
    stop = StopFlag() if stop is None else stop  # one that is not set yet is false
    return execute(plan, workspace, options, Reporter(Console(quiet=True), False), stop, factory)
