"""Restriction of a plan to some stages and what they need."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.compiler.fingerprint import graph_key
from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError
from gridloom.runtime.planning.local import Planned
from gridloom.runtime.planning.plan import RunPlan
from gridloom.wording import did_you_mean, listed


def only_stages(planned: Planned, names: Sequence[str]) -> Planned:
    """Return the plan of some stages and their inputs; a graph of its own, whose run is resumed as such.

    Raises GridloomError for a name that no node of the graph has.
    """
    graph = planned.plan.graph
    known = [node.name for node in graph.nodes]
    for name in names:
        if name not in known:
            raise GridloomError(f"no stage {name!r} in {graph.name}", did_you_mean(name, known, listed(known, 8)))
    wanted = {*names}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs.values())
    nodes = tuple(node for node in graph.nodes if node.name in wanted)
    smaller = RunGraph(
        name=graph.name, seed=graph.seed, device=graph.device, nodes=nodes, key=graph_key(node.key for node in nodes)
    )
    stages = tuple(stage for stage in planned.plan.stages if stage.node.name in wanted)
    return planned._replace(plan=RunPlan(smaller, stages))
