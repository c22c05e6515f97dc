"""State machine of the solver: one flat LangGraph graph, checkpointed after every node."""

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

NODES_PER_ATTEMPT = 6
"""Number of nodes in one cycle: plan, reason, adapt, propose, verify, record."""


@dataclass(frozen=True, slots=True)
class TaskRun:
    """LangGraph context of one task; the graph itself is shared by all tasks."""

    nodes: Nodes
    after_node: Callable[[], None] = lambda: None
    """Callback after a node and before its checkpoint is written; the callback may request that the run drains."""


Graph = CompiledStateGraph[LoopState, TaskRun, LoopState, LoopState]


def build_graph(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """Build START -> plan -> reason -> adapt -> propose -> verify -> record -+-> plan | select -> END.

    Building takes as long as a few attempts of the loop itself, so one graph serves all tasks of a stage.
    """
    graph: StateGraph[LoopState, TaskRun, LoopState, LoopState] = StateGraph(LoopState, context_schema=TaskRun)
    for name in ("reason", "adapt", "propose", "verify", "select"):
        graph.add_node(name, _node(name))
    # the node returns the next node's name: a conditional edge would be one more runnable to start, 0.3 ms each
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
    """Return a node that runs the method `name` of `Nodes`; the method `choice`, if given, returns the next node."""

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
    """Return the id of a task's LangGraph thread."""
    return f"{run_id}/{stage}/{task_id}"


async def run_graph(
    graph: Graph, run: TaskRun, task_id: str, thread: str, max_attempts: int, control: RunControl | None = None
) -> LoopState | None:
    """Run a task's graph to its end, starting at its checkpoint if one exists.

    Returns the state, where only `history` and `picks` are guaranteed; None when `control` drained the run.
    """
    config: RunnableConfig = {
        "configurable": {"thread_id": thread},
        "recursion_limit": NODES_PER_ATTEMPT * max_attempts + 2,
    }
    start: LoopState | None = {"task_id": task_id}
    if graph.checkpointer:
        snapshot = await graph.aget_state(config)
        if snapshot.values.get("picks") is not None:
            return cast(LoopState, snapshot.values)
        if snapshot.next:
            start = None  # resume at the next node of the checkpoint
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
