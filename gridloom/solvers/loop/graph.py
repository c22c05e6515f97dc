"""The solver's state machine: one flat LangGraph graph, checkpointed after every node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.types import Command, Durability

from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.types import LoopState

NODES_A_TRIP = 6
"""plan, reason, adapt, propose, verify, record."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """The context of one task's run: what the graph, which all tasks share, works on."""

    nodes: Nodes
    after_node: Callable[[], None] = lambda: None
    """Called when a node is done and before its checkpoint is written; it may ask the run to drain."""


Graph = CompiledStateGraph[LoopState, TaskRun, LoopState, LoopState]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """Wire START -> plan -> reason -> adapt -> propose -> verify -> record -+-> plan | select -> END.

    Building takes as long as a few attempts of the loop itself, so that one graph serves all tasks of a stage.
    """
    graph: StateGraph[LoopState, TaskRun, LoopState, LoopState] = StateGraph(LoopState, context_schema=TaskRun)
    for name in ("reason", "adapt", "propose", "verify", "select"):
        graph.add_node(name, _node(name))
    # a node that names the next one: a conditional edge would be one more runnable to start, 0.3 ms each
    graph.add_node("plan", _node("plan", "after_plan"), destinations=("reason", "propose"))
    graph.add_node("record", _node("record", "after_record"), destinations=("plan", "select"))
    graph.add_edge(START, "plan")
    graph.add_edge("reason", "adapt")
    graph.add_edge("adapt", "propose")
    graph.add_edge("propose", "verify")
    graph.add_edge("verify", "record")
    graph.add_edge("select", END)
    return graph.compile(checkpointer=checkpointer)


def _node(name: str, choice: str | None = None) -> Any:
    """Return a node that runs a method of `Nodes`, and where `choice` names another, goes where that one says."""

    async def run(state: LoopState, runtime: Runtime[TaskRun]) -> dict[str, Any] | Command[str]:
        nodes = runtime.context.nodes
        node: Callable[[LoopState], Awaitable[dict[str, Any]]] = getattr(nodes, name)
        update = await node(state)
        runtime.context.after_node()
        if choice is None:
            return update
        return Command(update=update, goto=getattr(nodes, choice)({**state, **update}))

    return run


def thread_id(run_id: str, stage: str, task_id: str) -> str:
    """Name the LangGraph thread of a task."""
    return f"{run_id}/{stage}/{task_id}"


async def run_graph(
    graph: Graph, run: TaskRun, task_id: str, thread: str, max_attempts: int, control: RunControl | None = None
) -> LoopState | None:
    """Run a task's graph to its end, from its checkpoint if it has one; None when `control` drained it on the way.

    Returns the state, of which only `history` and `picks` are sure to be there.
    """
    config: RunnableConfig = {
        "configurable": {"thread_id": thread},
        "recursion_limit": NODES_A_TRIP * max_attempts + 2,
    }
    start: LoopState | None = {"task_id": task_id}
    if graph.checkpointer:
        snapshot = await graph.aget_state(config)
        if snapshot.values.get("picks") is not None:
            return cast(LoopState, snapshot.values)
        if snapshot.next:
            start = None  # continue at the node where it was
    try:
        durability: Durability | None = "sync" if graph.checkpointer else None
        # version 2 streams nothing but the values of these keys, which saves a twentieth of an attempt
        done = await graph.ainvoke(
            start,
            config,
            context=run,
            durability=durability,
            control=control,
            output_keys=["history", "picks"],
            version="v2",
        )
    except GraphDrained:
        return None
    return done.value
