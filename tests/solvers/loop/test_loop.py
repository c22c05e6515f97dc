"""The loop with scripted models: order of nodes, retries, feedback, and what reaches the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.runtime import RunControl
from mirror_task import RIGHT, WRONG, mirror_task

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.graph import TaskRun, build_graph, run_graph
from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.loop.policies import make_policy
from gridloom.solvers.loop.recording import AttemptScope
from gridloom.solvers.parts.scripted import ScriptedProposer, ScriptedReasoner
from gridloom.solvers.parts.services import Services
from gridloom.solvers.types import LoopState
from gridloom.specs.solver import Solver
from gridloom.stores.records import AttemptRecord, CandidateRecord, PickRecord, Record


class Loop:
    """One task's loop around scripted models; `records` holds every append."""

    def __init__(self, task: Task, proposer: ScriptedProposer, reasoner: ScriptedReasoner | None, **settings: Any):
        self.task = task
        self.settings = Solver(**settings)
        self.appends: list[tuple[Record, ...]] = []
        self.events: list[object] = []
        scope = AttemptScope("r", "solve", task.task_id, "gl1:stage", "gl1:checkpoint")
        self.nodes = Nodes(
            task,
            settings=self.settings,
            seed=0,
            services=Services(proposer, reasoner),
            policy=make_policy(self.settings.policy),
            scope=scope,
            append=lambda *records: self.appends.append(records),
            show=self.events.append,
        )
        self.saver = InMemorySaver()
        self.graph = build_graph(self.saver)
        self.after_node: Callable[[], None] = lambda: None

    def run(self, control: RunControl | None = None) -> LoopState | None:
        run = TaskRun(self.nodes, self.after_node)
        return asyncio.run(run_graph(self.graph, run, self.task.task_id, "t", self.settings.max_attempts, control))

    def visited(self) -> list[str]:
        history = list(self.graph.get_state_history({"configurable": {"thread_id": "t"}}))
        return [snapshot.next[0] for snapshot in reversed(history) if snapshot.next and snapshot.next[0] != "__start__"]

    def of(self, kind: type[Record]) -> list[Any]:
        return [record for append in self.appends for record in append if isinstance(record, kind)]


def script(*attempts: Sequence[Any]) -> ScriptedProposer:
    return ScriptedProposer({"aaaa0001": attempts})


@pytest.mark.parametrize("k", [1, 2, 3])
def test_loop_stops_at_the_attempt_that_is_accepted(task: Task, k: int) -> None:
    loop = Loop(task, script(*[[WRONG[:1]]] * (k - 1), [RIGHT]), ScriptedReasoner(), max_attempts=5)
    loop.run()
    attempts = loop.of(AttemptRecord)
    assert [a.verdict for a in attempts] == ["rejected"] * (k - 1) + ["accepted"]
    trip = ["plan", "reason", "adapt", "propose", "verify", "record"]
    assert loop.visited() == trip * k + ["select"]


def test_loop_makes_max_attempts_and_no_more(task: Task) -> None:
    loop = Loop(task, script([WRONG[:1]]), ScriptedReasoner(), max_attempts=3)
    loop.run()
    assert [a.attempt_id for a in loop.of(AttemptRecord)] == ["aaaa0001.1", "aaaa0001.2", "aaaa0001.3"]
    assert all(not pick.accepted and pick.num_attempts == 3 for pick in loop.of(PickRecord))


def test_checkpoint_without_llama_skips_reason_and_adapt_and_records_no_text(task: Task) -> None:
    loop = Loop(task, script([RIGHT]), None)
    loop.run()
    assert loop.visited() == ["plan", "propose", "verify", "record", "select"]
    (attempt,) = loop.of(AttemptRecord)
    assert (attempt.prompt, attempt.text, attempt.latent) == (None, None, None)


def test_feedback_and_prefix_of_an_attempt_reach_the_next_prompt(task: Task) -> None:
    reasoner = ScriptedReasoner()
    loop = Loop(task, script([WRONG[:1]], [[[7, 7]]]), reasoner, max_attempts=3)
    loop.run()
    first, second, third = loop.of(AttemptRecord)
    assert first.feedback
    assert first.feedback not in reasoner.prompts[0]
    assert first.feedback in reasoner.prompts[1]
    assert reasoner.prompts[2].index(f"attempt 1: {first.feedback}") < reasoner.prompts[2].index("attempt 2:")
    assert reasoner.prefixes[0] is None
    assert reasoner.prefixes[1] is not None
    assert (first.prefix, second.prefix, third.prefix) == tuple(reasoner.prefixes)


def test_feedback_off_keeps_prompts_and_prefixes_bare(task: Task) -> None:
    reasoner = ScriptedReasoner()
    Loop(task, script([WRONG[:1]]), reasoner, max_attempts=2, feedback=False).run()
    assert len(set(reasoner.prompts)) == 1
    assert reasoner.prefixes == [None, None]


def test_each_attempt_is_one_append_and_retries_see_other_views_and_temperatures(task: Task) -> None:
    loop = Loop(task, script([WRONG[:1]]), ScriptedReasoner(), max_attempts=2, views=3)
    loop.run()
    assert len(loop.appends) == 3, "two attempts and the picks"
    plans = [a.plan for a in loop.of(AttemptRecord)]
    assert not set(plans[0]["views"]) & set(plans[1]["views"])
    assert plans[1]["temperature"] > plans[0]["temperature"]
    assert plans[0]["seed"] != plans[1]["seed"]


def test_grid_in_the_text_becomes_a_candidate_of_the_input_that_was_shown() -> None:
    task = mirror_task(num_tests=2)
    loop = Loop(task, script([RIGHT, []]), ScriptedReasoner(["?", "so:\n2 0 0\n0 1 1\n"]), max_attempts=2)
    loop.run()
    written = [c for c in loop.of(CandidateRecord) if c.source == "llama"]
    assert [(c.attempt, c.test_index, c.rank, c.grid) for c in written] == [(2, 1, 0, [[2, 0, 0], [0, 1, 1]])]
    assert [a.grids for a in loop.of(AttemptRecord)] == [[RIGHT, []], [RIGHT, [[2, 0, 0], [0, 1, 1]]]]


def test_drained_loop_continues_at_the_node_where_it_was(task: Task) -> None:
    whole = Loop(task, script([WRONG[:1]], [RIGHT]), ScriptedReasoner())
    whole.run()

    loop = Loop(task, script([WRONG[:1]], [RIGHT]), ScriptedReasoner())
    stops = 0
    while True:
        control = RunControl()
        loop.after_node = partial(control.request_drain, "SIGINT")
        if loop.run(control) is not None:
            break
        stops += 1
    assert stops == 12, "after every node but the last, which has nothing left to stop"
    assert loop.visited() == whole.visited()
    assert len(loop.of(AttemptRecord)) == len(whole.of(AttemptRecord)) == 2
    assert [p.grid for p in loop.of(PickRecord)] == [p.grid for p in whole.of(PickRecord)]


def test_state_holds_plain_values_only(task: Task) -> None:
    loop = Loop(task, script([WRONG[:1]]), ScriptedReasoner(), max_attempts=2)
    state = loop.run()
    assert state is not None
    _assert_plain(dict(state))


def _assert_plain(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            assert "answer" not in key
            _assert_plain(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _assert_plain(item)
    else:
        assert type(value) in (int, float, str, bytes, bool, type(None)), type(value)
