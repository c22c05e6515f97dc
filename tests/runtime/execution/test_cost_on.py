"""Tests of what a plan costs on a place: nodes, workers, hours, memory, transfer."""

from __future__ import annotations

import pytest

from gridloom.compiler.device_speeds import DeviceSpeeds
from gridloom.compiler.graph import Cost, RunGraph, StageNode
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.execution.cost_on import cost_on
from gridloom.runtime.planning.plan import make_plan
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace

HOURS = DeviceSpeeds("cpu", 0, step_overhead_s=3600.0)
"""Speeds of a device on which every step takes an hour."""


def node(name: str, kind: str, hours: int | None, **inputs: str) -> StageNode:
    cost = None if hours is None else Cost(parameters=0, flops={}, num_steps=hours, step="step", peak_bytes=300_000_000)
    return StageNode(
        name=name,
        kind=kind,
        version=1,
        produces="report",
        key=f"gl1:{name}",
        spec={},
        inputs=inputs,
        cost=cost,
    )


GRAPH = RunGraph(
    name="three",
    seed=0,
    device="cpu",
    key="gl1:graph",
    nodes=(node("one", "train", 4), node("two", "train", 6), node("solve", "solve", 12, with_="one")),
)


def lines(workspace: Workspace, *nodes: StageNode, speeds: DeviceSpeeds | None = HOURS, **profile: object) -> str:
    graph = GRAPH.model_copy(update={"nodes": nodes}) if nodes else GRAPH
    plan = make_plan(graph, ArtifactStore(workspace))
    return "\n".join(cost_on(Profile.model_validate(profile), plan, speeds, workspace))


@pytest.mark.parametrize(
    ("profile", "wanted"),
    [
        ({"where": "here"}, ["this process", "22 h 00 min in place of 22 h 00 min", "transfer   none"]),
        # 22 h of work on two workers; on eight the chain of one and solve is no shorter than the training two
        ({"where": "local:2"}, ["1 node, 2 workers", "11 h 00 min in place of 22", "2.0 GB for 2 on one node"]),
        ({"where": "local:8"}, ["1 node, 8 workers", " 6 h 00 min in place of 22", "8.0 GB for 8 on one node"]),
        # each training takes both processes, and one stage follows the other
        ({"where": "torchrun:2"}, ["2 processes for each training", "17 h 00 min in place of 22"]),
        ({"where": "ray:8"}, ["8 workers on the nodes of the cluster", " 6 h 00 min", "0.0 MB of 0 published inputs"]),
        ({"where": "ray"}, ["a worker for each GPU", "22 h 00 min", "ray:N"]),
        ({"where": "srun:8"}, ["8 workers on the nodes of the allocation", " 6 h 00 min", "shared workspace"]),
        # every stage has a job of its own: the longest chain, and the hours of all nodes
        ({"where": "slurm:p", "memory": "8G"}, ["3 jobs of 1 node", "16 h 00 min", "22.0 node-hours", "asks for 8G"]),
        (
            {"where": "slurm:p", "nodes": 2, "workers": 3},
            ["3 jobs of 1 node, solve on 2 nodes with 6 workers", " 6 h 00 min", "14.0 node-hours", "3.0 GB for 3"],
        ),
    ],
)
def test_a_place_has_nodes_hours_memory_and_transfer(
    workspace: Workspace, profile: dict[str, object], wanted: list[str]
) -> None:
    shown = lines(workspace, **profile)
    for text in wanted:
        assert text in shown, shown
    assert "journals   up to 1 MB of 12 attempts" in shown


def test_a_stage_without_a_cost_is_named_and_an_unmeasured_device_is_another_matter(workspace: Workspace) -> None:
    search = node("search", "solve", None)
    for speeds in (HOURS, None):
        assert "not known: no cost model for search" in lines(workspace, search, speeds=speeds, where="local:2")
    assert "gridloom doctor --calibrate" in lines(workspace, speeds=None, where="local:2")


def test_without_work_there_are_no_hours(workspace: Workspace) -> None:
    shown = lines(workspace, node("data", "arc", None), where="local:2")
    assert "  time" not in shown
