"""Cost of a plan on a place: workers, hours, memory of a node, and what is transferred."""

from __future__ import annotations

import math

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.graph import StageNode
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.planning.plan import RunPlan
from gridloom.runtime.stage import SPLIT
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace
from gridloom.wording import duration

PROCESS_BYTES = 700e6
"""Resident memory of a worker without a model: Python, torch and numba, measured on Linux."""
TASK_JOURNAL_BYTES = 50e3
"""Journal of one attempt at one task with its LangGraph checkpoints: 47 kB measured over the search proposer."""


def cost_on(profile: Profile, plan: RunPlan, speeds: DeviceSpeeds | None, workspace: Workspace) -> list[str]:
    """Return the cost of a plan on a place as lines of text; times only where the device's speeds are known."""
    place = profile.place
    to_run = [stage for stage in plan.stages if stage.state == "run"]
    nodes = profile.nodes if place.kind == "slurm" else 1
    workers = place.num_workers or nodes * (profile.workers or 1)
    known = place.num_workers or place.kind in ("here", "slurm")
    times = {stage.node.name: stage.expected_seconds(speeds) for stage in to_run}
    lines = [f"on {place}: {workers if known else 'as many as the cluster has'} worker{'s' if workers > 1 else ''}"]
    costed = [stage.node for stage in to_run if stage.node.cost is not None or stage.node.kind in SPLIT]
    if costed and all(times[node.name] is not None for node in costed):
        alone = sum(times[node.name] or 0.0 for node in costed)
        shared = _critical(costed, {name: seconds or 0.0 for name, seconds in times.items()}, workers)
        lines.append(f"  time       {duration(shared)} in place of {duration(alone)} of one process")
    else:
        lines.append("  time       not known: calibrate the device (gridloom doctor --calibrate)")
    memory = max((node.cost.peak_bytes for node in costed if node.cost is not None), default=0) + PROCESS_BYTES
    on_node = -(-workers // nodes)
    lines.append(
        f"  memory     {memory / 1e9:.1f} GB a worker, {memory * on_node / 1e9:.1f} GB for {on_node} on one node"
    )
    store = ArtifactStore(workspace)
    inputs = {name: plan.graph.node(name).key for node in costed for name in node.inputs.values()}
    there = [found for key in inputs.values() if (found := store.find(key)) is not None]
    if place.kind == "ray":
        size = sum(one.num_bytes for one in there)
        lines.append(
            f"  transfer   {size / 1e6:.1f} MB of {len(there)} published inputs to each node without the shared disk"
            + (f"; {len(inputs) - len(there)} more are not made yet" if len(there) < len(inputs) else "")
        )
    attempts = sum(_attempts(node) for node in costed)
    if attempts:
        lines.append(f"  journals   up to {attempts * TASK_JOURNAL_BYTES / 1e6:.0f} MB of {attempts:,} attempts")
    return lines


def _attempts(node: StageNode) -> int:
    return node.cost.num_steps if node.kind == "solve" and node.cost is not None else 0


def _critical(nodes: list[StageNode], seconds: dict[str, float], workers: int) -> float:
    """Return the time of stages on workers: those that split share all workers, others take one each.

    The bound is the larger of the longest chain and the whole work spread evenly.
    """
    ends: dict[str, float] = {}
    for node in nodes:
        took = seconds[node.name] / (workers if node.kind in SPLIT else 1)
        ends[node.name] = took + max((ends.get(name, 0.0) for name in node.inputs.values()), default=0.0)
    work = math.fsum(seconds[node.name] for node in nodes) / workers
    return max([work, *ends.values()])
