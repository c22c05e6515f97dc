"""The solver's state machine: one flat LangGraph graph, checkpointed after every node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.errors import GraphDrained
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import RunControl

from gridloom.solvers.nodes import Nodes
from gridloom.solvers.types import LoopState

NODES_A_TRIP = 6
"""plan, reason, adapt, propose, verify, record."""


class Node(Protocol):
    """A coroutine function of the state."""

    def __call__(self, state: LoopState) -> Awaitable[dict[str, Any]]:
        """Return what changes."""


Graph = CompiledStateGraph[LoopState, None, LoopState, LoopState]


def build_graph(
    nodes: Nodes,
    checkpointer: BaseCheckpointSaver[Any] | None = None,
    after_node: Callable[[], None] = lambda: None,
) -> Graph:
    """Wire START -> plan -> reason -> adapt -> propose -> verify -> record -+-> plan | select -> END.

    `after_node` is called when a node is done and before its checkpoint is written; it may ask the run to drain.
    """
    graph: StateGraph[LoopState, None, LoopState, LoopState] = StateGraph(LoopState)
    for name in ("plan", "reason", "adapt", "propose", "verify", "record", "select"):
        graph.add_node(name, _followed(getattr(nodes, name), after_node))
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", nodes.after_plan, ["reason", "propose"])
    graph.add_edge("reason", "adapt")
    graph.add_edge("adapt", "propose")
    graph.add_edge("propose", "verify")
    graph.add_edge("verify", "record")
    graph.add_conditional_edges("record", nodes.after_record, ["plan", "select"])
    graph.add_edge("select", END)
    return graph.compile(checkpointer=checkpointer)


def _followed(node: Node, after_node: Callable[[], None]) -> Node:
    async def run(state: LoopState) -> dict[str, Any]:
        update = await node(state)
        after_node()
        return update

    return run


def thread_id(run_id: str, stage: str, task_id: str) -> str:
    """Name the LangGraph thread of a task."""
    return f"{run_id}/{stage}/{task_id}"


async def run_graph(
    graph: Graph, task_id: str, thread: str, max_attempts: int, control: RunControl | None = None
) -> LoopState | None:
    """Run a task's graph to its end, from its checkpoint if it has one; None when `control` drained it on the way."""
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
        state = await graph.ainvoke(start, config, durability="sync" if graph.checkpointer else None, control=control)
    except GraphDrained:
        return None
    return cast(LoopState, state)
