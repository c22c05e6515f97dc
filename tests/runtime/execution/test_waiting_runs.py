"""A stage that another process runs: refused, or waited for, taken over when that process dies."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from run_cases import TWO, Recorder, graph, node, run
from store_cases import start

from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.errors import StageInterrupted
from gridloom.runtime.execution.executor import RunOptions, execute
from gridloom.runtime.execution.run_locks import stage_lock
from gridloom.runtime.execution.run_outcome import RunFailed, RunResult
from gridloom.runtime.execution.stop_signal import StopFlag
from gridloom.runtime.planning.plan import make_plan
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact, ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


def test_without_wait_the_message_names_the_process_and_the_flag(workspace: Workspace) -> None:
    with stage_lock(workspace, TWO.nodes[0]), pytest.raises(RunFailed) as failed:
        run(TWO, workspace, Recorder())
    assert f"(pid {os.getpid()} on {socket.gethostname()})" in str(failed.value)
    assert "wait for it with --wait" in str(failed.value)
    rows = Ledger(workspace).rows("select stage, status from stages order by stage")
    assert [(row["stage"], row["status"]) for row in rows] == [("first", "failed"), ("second", "blocked")]


class Lines:
    """Progress that keeps the lines, and sets an event at the first."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.event = threading.Event()

    def say(self, text: str) -> None:
        self.lines.append(text)
        self.event.set()

    def show(self, renderable: object) -> None: ...

    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> AbstractContextManager[Any]:
        return nullcontext(SimpleNamespace(advance=lambda amount=1, **fields: None))


def waiting_run(
    workspace: Workspace, stages: Recorder, lines: Lines, key: str = "gl1:graph", stop: StopFlag | None = None
) -> RunResult:
    waited_for = TWO.model_copy(update={"key": key})
    options = RunOptions(base=Path(), spec="test.yaml", wait=True)
    plan = make_plan(waited_for, ArtifactStore(workspace))
    return execute(plan, workspace, options, lines, StopFlag() if stop is None else stop, stages)


def test_runs_that_wait_use_the_artifacts_of_the_process_that_makes_them(workspace: Workspace) -> None:
    released = threading.Event()

    def slow(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        assert released.wait(60)

    ours, theirs = Recorder(slow), Recorder()
    lines = [Lines(), Lines()]
    with ThreadPoolExecutor(3) as pool:
        maker = pool.submit(run, TWO, workspace, ours)
        while not ours.ran:
            time.sleep(0.01)
        waiters = [pool.submit(waiting_run, workspace, theirs, one, f"gl1:{i}") for i, one in enumerate(lines)]
        for one in lines:
            assert one.event.wait(60)
        released.set()
        assert maker.result().executed == ("first", "second")
        results = [waiter.result() for waiter in waiters]
    assert theirs.ran == []
    assert [(result.executed, result.cached) for result in results] == [((), ("first", "second"))] * 2
    wanted = f"first: waiting for process {os.getpid()} on {socket.gethostname()}, which runs this stage"
    assert all(one.lines[0] == wanted for one in lines)
    statuses = Ledger(workspace).rows("select distinct run_id, status from runs")
    assert [row["status"] for row in statuses] == ["done"] * 3


def test_a_run_that_waits_takes_over_the_stage_of_a_process_that_dies(workspace: Workspace) -> None:
    process = start(
        workspace.root,
        "from gridloom.compiler.graph import StageNode\n"
        "from gridloom.runtime.execution.run_locks import stage_lock\n"
        f"with stage_lock(workspace, StageNode.model_validate_json({TWO.nodes[0].model_dump_json()!r})):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    stages, lines = Recorder(), Lines()
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(waiting_run, workspace, stages, lines)
        assert lines.event.wait(60)
        process.kill()
        assert waiter.result(60).executed == ("first", "second")
    assert f"process {process.pid} on " in lines.lines[0]
    assert stages.ran == ["first", "second"]


@pytest.mark.parametrize(("reason", "error"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", StageInterrupted)])
def test_a_stop_ends_the_wait(workspace: Workspace, reason: str, error: type[BaseException]) -> None:
    stop, lines = StopFlag(), Lines()
    with ThreadPoolExecutor(1) as pool, stage_lock(workspace, TWO.nodes[0]):
        waiter = pool.submit(waiting_run, workspace, Recorder(), lines, stop=stop)
        assert lines.event.wait(60)
        stop.set(reason)
        with pytest.raises(error):
            waiter.result(60)
    assert Ledger(workspace).rows("select status from runs") == [{"status": "interrupted"}]


def test_two_runs_that_wait_for_each_other_both_end(workspace: Workspace) -> None:
    """Either makes a stage that the other reads next: no lock is kept while waiting."""
    meet = threading.Barrier(2, timeout=60)

    def together(node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        met.append(node.name)
        meet.wait()

    met: list[str] = []
    nodes = node("one", "1"), node("two", "2")
    stages = Recorder(together)
    options = RunOptions(base=Path(), spec="test.yaml", wait=True)

    def go(order: RunGraph) -> RunResult:
        plan = make_plan(order, ArtifactStore(workspace))
        return execute(plan, workspace, options, Lines(), StopFlag(), stages)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(go, graph(*nodes, key="gl1:a"))
        while not met:
            time.sleep(0.01)
        second = pool.submit(go, graph(*nodes[::-1], key="gl1:b"))
        results = [first.result(120), second.result(120)]
    assert sorted(stages.ran) == ["one", "two"]
    assert [len(result.artifacts) for result in results] == [2, 2]
