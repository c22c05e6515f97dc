"""DuckDBSaver: LangGraph's own conformance suite, and what the suite does not ask: crashes, retention, forks."""

from __future__ import annotations

import asyncio
import operator
import random
import time
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
import store_cases
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.serde.types import INTERRUPT
from langgraph.graph import END, START, StateGraph
from store_cases import start

from gridloom.stores.ledger import Ledger, LedgerWriter
from gridloom.stores.threads.checkpointer import DuckDBSaver
from gridloom.stores.workspace import Workspace


def test_saver_passes_every_capability_of_the_conformance_suite(tmp_path: Path) -> None:
    folders = iter(range(100))

    @checkpointer_test(name="DuckDBSaver")
    async def saver() -> AsyncGenerator[BaseCheckpointSaver[str], None]:
        with LedgerWriter(Workspace(tmp_path / str(next(folders))), "run") as writer:
            yield DuckDBSaver(writer)

    report = asyncio.run(validate(saver))
    for capability in Capability:
        result = report.results[capability.value]
        assert result.detected, capability
        assert result.failures == []
        assert result.tests_passed > 0


class Loop(TypedDict):
    trail: Annotated[list[str], operator.add]
    latent: bytes


def build_loop(num_nodes: int, seen: list[str]) -> StateGraph[Loop]:
    """A chain of nodes; each notes that it ran in `seen`, its name in the state, and replaces a latent."""
    graph = StateGraph(Loop)
    names = [f"node{number}" for number in range(num_nodes)]

    def node(name: str) -> Callable[[Loop], dict[str, Any]]:
        def run(state: Loop) -> dict[str, Any]:
            seen.append(name)
            return {"trail": [name], "latent": name.encode() * 10}

        return run

    for name in names:
        graph.add_node(name, node(name))  # type: ignore[call-overload]
    for before, after in pairwise([START, *names, END]):
        graph.add_edge(before, after)
    return graph


def on(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id}}


def listed(saver: BaseCheckpointSaver[str], thread_id: str | None = None) -> list[CheckpointTuple]:
    return [*saver.list(on(thread_id) if thread_id else None)]


def thread_of(item: CheckpointTuple) -> str:
    return str(item.config["configurable"]["thread_id"])


def test_a_second_process_reads_what_the_first_one_put(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        first = DuckDBSaver(writer)
        graph = build_loop(3, []).compile(checkpointer=first)
        graph.invoke({"trail": [], "latent": b""}, on("task-a"))
        graph.invoke({"trail": [], "latent": b""}, on("task-b"))
        before = listed(first)
    with LedgerWriter(workspace, "run-1") as writer:
        second = DuckDBSaver(writer)
        assert listed(second, "task-a") == [item for item in before if thread_of(item) == "task-a"]
        assert listed(second) == before
        state = build_loop(3, []).compile(checkpointer=second).get_state(on("task-a"))
        assert state.values == {"trail": ["node0", "node1", "node2"], "latent": b"node2" * 10}


@pytest.mark.parametrize(
    ("as_async", "one_task"), [(False, False), (True, False), (True, True)], ids=["sync", "async", "async, one task"]
)
def test_a_graph_killed_in_a_node_goes_on_at_that_node(workspace: Workspace, as_async: bool, one_task: bool) -> None:
    process = start(
        workspace.root,
        f"""
import asyncio
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(store_cases.__file__).parent)!r}]
import test_checkpointer as cases
from gridloom.stores.threads.checkpointer import DuckDBSaver
class Hang(list):
    def append(self, name):
        print(name, flush=True)
        if name == 'node2':
            time.sleep(60)
saver = DuckDBSaver(LedgerWriter(workspace, 'run-1'), one_task_a_step={one_task})
graph = cases.build_loop(5, Hang()).compile(checkpointer=saver)
start = {{'trail': [], 'latent': b''}}
if {as_async}:
    asyncio.run(graph.ainvoke(start, cases.on('task'), durability='sync'))
else:
    graph.invoke(start, cases.on('task'), durability='sync')
""",
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == ["node0\n", "node1\n", "node2\n"]
    process.kill()
    process.wait()
    seen: list[str] = []
    with LedgerWriter(workspace, "run-1") as writer:
        graph = build_loop(5, seen).compile(checkpointer=DuckDBSaver(writer, one_task_a_step=one_task))
        result = asyncio.run(graph.ainvoke(None, on("task"))) if as_async else graph.invoke(None, on("task"))
    assert seen == ["node2", "node3", "node4"]
    assert result["trail"] == [f"node{number}" for number in range(5)]
    stored = Ledger(workspace).rows("SELECT count(*) AS n FROM graph_writes")[0]["n"]
    assert (stored == 0) == one_task, "of one task a step, the checkpoint holds what its writes would"


def test_forks_of_a_thread_do_not_overwrite_each_other(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        graph = build_loop(3, []).compile(checkpointer=DuckDBSaver(writer))
        graph.invoke({"trail": [], "latent": b""}, on("task"))
        middle = next(state for state in graph.get_state_history(on("task")) if state.next == ("node1",))
        tips = []
        for name in ("left", "right"):
            fork = graph.update_state(middle.config, {"trail": [name]}, as_node="node0")
            graph.invoke(None, fork)
            tips.append(graph.get_state(on("task")))
        trails = [state.values.get("trail") for state in graph.get_state_history(on("task"))]
        assert trails.count(["node0", "node1", "node2"]) == 1
    with LedgerWriter(workspace, "run-1") as writer:
        graph = build_loop(3, []).compile(checkpointer=DuckDBSaver(writer))
        assert [graph.get_state(tip.config).values["trail"] for tip in tips] == [
            ["node0", "left", "node1", "node2"],
            ["node0", "right", "node1", "node2"],
        ]


def apply_operation(saver: DuckDBSaver, rng: random.Random) -> None:
    """One random change to one of three threads."""
    thread_id = rng.choice("abc")
    kind = rng.choice(["run", "run", "prune", "delete", "copy", "delete for runs", "retain"])
    if kind == "run":
        config: RunnableConfig = {**on(thread_id), "metadata": {"run_id": rng.choice(["r1", "r2"])}}
        build_loop(2, []).compile(checkpointer=saver).invoke({"trail": [kind], "latent": b""}, config)
    elif kind == "prune":
        saver.prune([thread_id])
    elif kind == "delete":
        saver.delete_thread(thread_id)
    elif kind == "copy":
        saver.copy_thread(thread_id, rng.choice("abc"))
    elif kind == "delete for runs":
        saver.delete_for_runs([rng.choice(["r1", "r2"])])
    else:
        saver.retain(thread_id, rng.choice(["all", "last"]))  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_the_ledger_says_what_memory_says_after_any_changes(workspace: Workspace, ledger: Ledger, seed: int) -> None:
    rng = random.Random(seed)
    with LedgerWriter(workspace, "run-1") as writer:
        saver = DuckDBSaver(writer)
        for _ in range(14):
            apply_operation(saver, rng)
            if rng.random() < 0.2:
                ledger.ingest()
        expected = listed(saver)
    assert expected
    with LedgerWriter(workspace, "run-1") as writer:
        assert listed(DuckDBSaver(writer)) == expected
    (row,) = ledger.rows("SELECT count(*) AS n FROM graph_checkpoints")
    assert row["n"] == len(expected)


def test_of_a_solved_task_the_last_checkpoint_is_kept_and_of_a_failed_one_all(
    workspace: Workspace, ledger: Ledger
) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        saver = DuckDBSaver(writer)
        graph = build_loop(4, []).compile(checkpointer=saver)
        for name in ("solved", "failed"):
            graph.invoke({"trail": [], "latent": b""}, on(name))
        num_all = len(listed(saver, "failed"))
        ledger.ingest()  # so that rows go as well as journal lines
        saver.retain("solved", "last")
        saver.retain("failed", "all")
        assert saver._memory.threads == {}  # a finished thread leaves memory
        assert len(listed(saver, "solved")) == 1
        assert graph.get_state(on("solved")).values["trail"] == [f"node{number}" for number in range(4)]
    rows = ledger.rows("SELECT thread_id, count(*) AS n FROM graph_checkpoints GROUP BY ALL ORDER BY ALL")
    assert rows == [{"thread_id": "failed", "n": num_all}, {"thread_id": "solved", "n": 1}]
    blobs = ledger.rows("SELECT channel, count(*) AS n FROM graph_blobs WHERE thread_id = 'solved' GROUP BY ALL")
    assert {row["channel"]: row["n"] for row in blobs}["trail"] == 1


def test_a_clock_that_was_set_back_between_two_lives_repeats_no_node(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoint ids sort by the clock: what a later life saved must not be passed over for what it was made from."""
    now_ns, seen = time.time_ns, list[str]()
    for life, hours_back in enumerate((0, 5, 9, 2)):
        monkeypatch.setattr("langgraph.checkpoint.base.id._last_v6_timestamp", None)
        monkeypatch.setattr(time, "time_ns", lambda back=hours_back: now_ns() - back * 3600 * 10**9)
        with LedgerWriter(workspace, "run-1") as writer:
            later = [f"node{life + 1}"] if life < 3 else []
            graph = build_loop(4, seen).compile(DuckDBSaver(writer, one_task_a_step=True), interrupt_before=later)
            graph.invoke(None if life else {"trail": [], "latent": b""}, on("task"), durability="sync")
    assert seen == [f"node{number}" for number in range(4)]
    with LedgerWriter(workspace, "run-1") as writer:
        state = build_loop(4, seen).compile(checkpointer=DuckDBSaver(writer)).get_state(on("task"))
    assert (state.values["trail"], state.next) == (seen, ())


def test_an_unknown_prune_strategy_is_refused(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer, pytest.raises(ValueError, match="keep_some"):
        DuckDBSaver(writer).prune(["a"], strategy="keep_some")


class Long(TypedDict):
    lines: Annotated[
        list[str],
        DeltaChannel(lambda state, writes: [*state, *(x for w in writes for x in w)], list, snapshot_frequency=4),
    ]


@pytest.mark.parametrize("num_rounds", range(1, 8))
def test_pruning_keeps_the_ancestors_a_delta_channel_is_rebuilt_from(workspace: Workspace, num_rounds: int) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        saver = DuckDBSaver(writer)
        builder = StateGraph(Long)
        builder.add_node("say", lambda state: {"lines": [f"line {len(state['lines'])}"]})
        builder.add_edge(START, "say")
        builder.add_edge("say", END)
        graph = builder.compile(checkpointer=saver)
        for number in range(num_rounds):
            graph.invoke({"lines": [f"asked {number}"]}, on("task"))
        before = graph.get_state(on("task")).values
        num_before = len(listed(saver, "task"))
        saver.prune(["task"])
        num_after = len(listed(saver, "task"))
        assert num_after < num_before or num_rounds == 1  # up to the first snapshot, every ancestor is needed
        assert graph.get_state(on("task")).values == before
        assert len(before["lines"]) == 2 * num_rounds


def test_a_write_of_a_task_is_kept_once_but_an_interrupt_is_replaced(workspace: Workspace) -> None:
    for ingested in (False, True):
        with LedgerWriter(workspace, "run-1") as writer:
            saver = DuckDBSaver(writer)
            config: RunnableConfig = {
                "configurable": {"thread_id": f"task {ingested}", "checkpoint_ns": "", "checkpoint_id": "1"}
            }
            stored = saver.put(
                {"configurable": {"thread_id": f"task {ingested}", "checkpoint_ns": ""}},
                {**empty_checkpoint(), "id": "1"},
                {"source": "loop", "step": 0},
                {},
            )
            assert stored == config
            saver.put_writes(config, [("channel", "first"), (INTERRUPT, "first")], "task-1")
            if ingested:
                saver.ledger.ingest()
            saver.put_writes(config, [("channel", "second"), (INTERRUPT, "second")], "task-1")
        with LedgerWriter(workspace, "run-1") as writer:
            found = DuckDBSaver(writer).get_tuple(config)
        assert found is not None
        assert {(channel, value) for _, channel, value in found.pending_writes or ()} == {
            ("channel", "first"),
            (INTERRUPT, "second"),
        }


def test_threads_run_at_once_on_one_saver(workspace: Workspace) -> None:
    with LedgerWriter(workspace, "run-1") as writer:
        saver = DuckDBSaver(writer)
        graph = build_loop(4, []).compile(checkpointer=saver)

        async def solve_all() -> list[dict[str, Any]]:
            return await asyncio.gather(
                *(graph.ainvoke({"trail": [str(n)], "latent": b""}, on(f"task-{n}")) for n in range(16))
            )

        results = asyncio.run(solve_all())
        assert [result["trail"][0] for result in results] == [str(n) for n in range(16)]
        assert saver.hydrate() == set()  # nothing was in the ledger when the first thread was looked up
    with LedgerWriter(workspace, "run-1") as writer:
        assert DuckDBSaver(writer).hydrate(["task-3", "task-99"]) == {"task-3"}
