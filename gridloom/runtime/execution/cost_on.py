"""Cost of a plan on a place: nodes, workers, hours, memory of a node, and what is transferred."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.graph import StageNode
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.cluster.where import Where
from gridloom.runtime.planning.plan import RunPlan
from gridloom.runtime.stage import SPLIT
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace
from gridloom.wording import counted, duration, listed

PROCESS_BYTES = 700e6
"""Resident memory of a worker without a model: Python, torch and numba, measured on Linux."""
TASK_JOURNAL_BYTES = 50e3
"""Journal of one attempt at one task with its LangGraph checkpoints: 47 kB measured over the search proposer."""


def cost_on(profile: Profile, plan: RunPlan, speeds: DeviceSpeeds | None, workspace: Workspace) -> list[str]:
    """Return the cost of a plan on a place as lines of text; times only where the device's speeds are known."""
    place = profile.place
    to_run = [stage for stage in plan.stages if stage.state == "run"]
    times = {stage.node.name: stage.expected_seconds(speeds) for stage in to_run}
    costed = [stage.node for stage in to_run if stage.node.cost is not None or stage.node.kind in SPLIT]
    is_split = place.kind == "slurm" and any(node.kind in SPLIT for node in costed)
    nodes = profile.nodes if is_split else 1
    workers = place.num_workers or (nodes * (profile.workers or 1) if is_split else 1)
    lines = [f"on {place}: {_nodes(profile, [stage.node for stage in to_run], nodes, workers)}"]
    if without := [node.name for node in costed if node.cost is None]:
        lines.append(f"  time       not known: no cost model for {listed(without, 5)}")
    elif any(times[node.name] is None for node in costed):
        lines.append("  time       not known: calibrate the device (gridloom doctor --calibrate)")
    elif costed:
        lines += _hours(profile, costed, {name: seconds or 0.0 for name, seconds in times.items()}, nodes, workers)
    memory = max((node.cost.peak_bytes for node in costed if node.cost is not None), default=0) + PROCESS_BYTES
    on_node = -(-workers // nodes)
    at_once = f", {memory * on_node / 1e9:.1f} GB for {on_node} on one node" if _is_on_known_nodes(place) else ""
    asked = f"; the profile asks for {profile.memory}" if place.kind == "slurm" else ""
    lines.append(f"  memory     {memory / 1e9:.1f} GB a worker{at_once}{asked}")
    lines.append(f"  transfer   {_transfer(place, plan, costed, workspace)}")
    attempts = sum(node.cost.num_steps for node in costed if node.kind == "solve" and node.cost is not None)
    if attempts:
        lines.append(f"  journals   up to {attempts * TASK_JOURNAL_BYTES / 1e6:.0f} MB of {attempts:,} attempts")
    return lines


def _is_on_known_nodes(place: Where) -> bool:
    """Return whether the number of workers of a node is known: Ray's nodes and an allocation's are not asked."""
    return place.kind not in ("ray", "srun")


def _nodes(profile: Profile, to_run: list[StageNode], nodes: int, workers: int) -> str:
    """Return how many nodes and workers a run has, in words."""
    place = profile.place
    match place.kind:
        case "here":
            return "this process"
        case "local":
            return f"1 node, {counted(workers, 'worker')}"
        case "torchrun":
            return f"1 node, {'1 process' if workers == 1 else f'{workers} processes'} for each training"
        case "ray":
            return (
                f"{counted(workers, 'worker')} on the nodes of the cluster"
                if place.num_workers
                else "a worker for each GPU of the cluster, or each processor; times are those of one (ray:N plans N)"
            )
        case "srun":
            return (
                f"{counted(workers, 'worker')} on the nodes of the allocation"
                if place.num_workers
                else "a worker on each node of the allocation; times are those of one (srun:N plans N)"
            )
        case "slurm":
            shared = [node.name for node in to_run if node.kind in SPLIT]
            many = f", {listed(shared, 3)} on {counted(nodes, 'node')} with {counted(workers, 'worker')}"
            return f"{counted(len(to_run), 'job')} of 1 node" + (many if shared and workers > 1 else "")


def _hours(
    profile: Profile, nodes_to_run: list[StageNode], seconds: Mapping[str, float], nodes: int, workers: int
) -> list[str]:
    """Return the lines about time: of the run, of one process, and of the nodes that Slurm lends."""
    place = profile.place
    alone = math.fsum(seconds[node.name] for node in nodes_to_run)
    took = {node.name: seconds[node.name] / (workers if _is_shared(node, place) else 1) for node in nodes_to_run}
    elapsed = _elapsed(nodes_to_run, took, place, workers)
    lines = [f"  time       {duration(elapsed)} in place of {duration(alone)} of one process"]
    if place.kind == "slurm":
        lent = math.fsum(took[node.name] * (nodes if _is_shared(node, place) else 1) for node in nodes_to_run)
        lines[0] += ", when no job waits"
        lines.append(f"  nodes      {lent / 3600:.1f} node-hours")
    return lines


def _is_shared(node: StageNode, place: Where) -> bool:
    """Return whether all workers of a place take part in a stage."""
    return node.kind == "train" if place.kind == "torchrun" else node.kind in SPLIT


def _elapsed(nodes: list[StageNode], took: Mapping[str, float], place: Where, workers: int) -> float:
    """Return the time of a run whose stages take so long once each has all that it can use.

    A lower bound: of the longest chain on Slurm, where each stage has a job of its own; on workers also of the whole
    work spread evenly; under torchrun and in one process the stages come one after another.
    """
    if place.kind in ("here", "torchrun"):
        return math.fsum(took.values())
    ends: dict[str, float] = {}
    for node in nodes:
        ends[node.name] = took[node.name] + max((ends.get(name, 0.0) for name in node.inputs.values()), default=0.0)
    chain = max(ends.values())
    if place.kind == "slurm":
        return chain
    work = math.fsum(took[node.name] * (workers if _is_shared(node, place) else 1) for node in nodes) / workers
    return max(work, chain)


def _transfer(place: Where, plan: RunPlan, costed: list[StageNode], workspace: Workspace) -> str:
    """Return what travels between nodes, in words."""
    if place.kind != "ray":
        return "none" if place.kind in ("here", "local", "torchrun") else "none: all nodes read the shared workspace"
    store = ArtifactStore(workspace)
    inputs = {plan.graph.node(name).key for node in costed for name in node.inputs.values()}
    there = [found for key in inputs if (found := store.find(key)) is not None]
    size = sum(one.num_bytes for one in there)
    return f"{size / 1e6:.1f} MB of {counted(len(there), 'published input')} to each node without the shared disk" + (
        f"; {len(inputs) - len(there)} more are not made yet" if len(there) < len(inputs) else ""
    )
