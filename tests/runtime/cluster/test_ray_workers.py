"""Tests of workers on a Ray cluster of three node processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy_split import toy_job

from gridloom.errors import GridloomError
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.shipped import Shipped
from gridloom.runtime.cluster.where import parse_where
from gridloom.runtime.cluster.worker import Flag
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes with one processor each, on loopback."""
    pytest.importorskip("ray")
    from gridloom.runtime.cluster.ray_workers import import_ray

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"))
    ray = import_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()
    patch.undo()


@pytest.fixture
def crew_on(cluster: Any, workspace: Workspace) -> Iterator[Callable[[], tuple[Crew, list[str]]]]:
    """Return what makes a crew of the cluster, and what it says."""
    from gridloom.runtime.cluster.ray_workers import RayWorkers

    made: list[tuple[Crew, Shipped]] = []

    def make() -> tuple[Crew, list[str]]:
        said: list[str] = []
        shipped = Shipped(workspace)
        crew = Crew(RayWorkers(parse_where(cluster.address), workspace), "cpu", said.append, journals=shipped)
        made.append((crew, shipped))
        return crew, said

    yield make
    for crew, shipped in made:
        crew.close()
        shipped.close()


def test_three_nodes_share_items_and_ship_their_journals(
    crew_on: Callable[[], tuple[Crew, list[str]]], workspace: Workspace
) -> None:
    crew, said = crew_on()
    results: dict[str, Any] = {}
    killed: list[int] = []

    def take(item: str, got: Any) -> None:
        results[item] = got
        if not killed:  # a worker is killed in the midst of the run
            killed.append(got["pid"])
            os.kill(got["pid"], signal.SIGKILL)

    values = {f"i{n}": {"n": n, "sleep": 0.2} for n in range(30)}
    assert crew.run(toy_job(), [*values], lambda item, lost: values[item], take, Flag()) == []
    assert {item: got["square"] for item, got in results.items()} == {f"i{n}": n * n for n in range(30)}
    assert len({got["pid"] for got in results.values()}) >= 3
    assert any("was lost" in line for line in said)
    rows = Ledger(workspace).rows("select step, value from metrics order by step")
    assert [(row["step"], row["value"]) for row in rows] == [(n, n * n) for n in range(30)]


def test_an_address_without_a_cluster_is_an_error_that_names_it(workspace: Workspace) -> None:
    from gridloom.runtime.cluster.ray_workers import RayWorkers, import_ray

    import_ray().shutdown()
    with pytest.raises(GridloomError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        RayWorkers(parse_where("127.0.0.1:1"), workspace)
