"""A language model alone that is asked again: what is accepted, what it costs, what is recorded and replayed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mirror_task import mirror_task
from solve_support import Place, mirror_answers, place

from gridloom.runtime.data.arc.prompts import BuiltPrompt, grid_text
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.loop.confirm import questions
from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.loop.policies import make_policy
from gridloom.solvers.loop.recording import AttemptScope
from gridloom.solvers.loop.select import accepts_task
from gridloom.solvers.parts.prompting import write_prompt
from gridloom.solvers.parts.services import Services
from gridloom.solvers.parts.text_proposer import TextProposer
from gridloom.solvers.replay.replay import Replayer, replay
from gridloom.solvers.types import FinishedAttempt, LoopState, Plan, Reasoning
from gridloom.specs.solver import Confirm, Solver
from gridloom.stores.records import AttemptRecord, LlmCallRecord, PickRecord

Rule = Callable[[np.ndarray, list[tuple[np.ndarray, np.ndarray]]], np.ndarray]
"""(test input, demonstrations of the prompt) -> the grid that the model writes."""


@dataclass(slots=True)
class PromptReader:
    """A model that reads the grids of its prompt and answers by a rule."""

    rule: Rule
    model: str = "reader"
    prompts: list[str] = field(default_factory=list)

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        return write_prompt(task, plan, history, count_tokens=len, budget=10**6, keeps_history=False, alone=True)

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        self.prompts.append(prompt.text)
        found = re.findall(r"(?:Input|Output|Test input):\n((?:[0-9 ]+\n)+)", prompt.text)
        grids = [np.array([[int(c) for c in row.split()] for row in text.split("\n") if row]) for text in found]
        text = grid_text(self.rule(grids[-1], list(zip(grids[0:-1:2], grids[1:-1:2], strict=True))))
        return Reasoning(prompt=prompt.text, text=text, latent=None, prompt_tokens=10, new_tokens=5)


def mirror(given: np.ndarray, demos: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Apply the transform that explains the demonstrations: the mirror, also of a turned task."""
    for turn in (np.fliplr, np.flipud, np.transpose, lambda grid: np.rot90(grid, 2).T):
        if all(np.array_equal(turn(before), after) for before, after in demos):
            return turn(given)  # type: ignore[no-any-return]
    raise AssertionError("no rule")


def copied(given: np.ndarray, _: object) -> np.ndarray:
    return given


def always_left_right(given: np.ndarray, _: object) -> np.ndarray:
    """The right answer to the task itself and to its demonstrations, and a wrong one to a transposed task."""
    return np.fliplr(given)


def first_output(_: object, demos: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    return demos[0][1]


def wrong_corner(given: np.ndarray, demos: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    grid = mirror(given, demos).copy()
    grid[0, 0] = (grid[0, 0] + 1) % 10
    return grid


def run(rule: Rule, task: Task, **settings: Any) -> tuple[list[Any], PromptReader, LoopState]:
    """Run the loop without a graph, node by node; return the records of the ledger."""
    reader, records = PromptReader(rule), list[Any]()
    solver = Solver.model_validate({"reason": {"max_new_tokens": 99}, **settings})
    nodes = Nodes(
        task,
        settings=solver,
        seed=0,
        services=Services(TextProposer(), reader),
        policy=make_policy("fixed"),
        scope=AttemptScope("r", "solve", task.task_id, "gl1:stage", "gl1:words"),
        append=lambda *more: records.extend(more),
    )

    async def loop() -> LoopState:
        state: LoopState = {"task_id": task.task_id}
        while True:
            for node in (nodes.plan, nodes.reason, nodes.adapt, nodes.propose, nodes.verify, nodes.record):
                state = {**state, **await node(state)}  # type: ignore[typeddict-item]
            if nodes.after_record(state) == "select":
                return {**state, **await nodes.select(state)}  # type: ignore[typeddict-item]

    return records, reader, asyncio.run(loop())


def of(records: list[Any], kind: type) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


CONFIRM = {"left_out": 1, "views": 1}


def test_right_model_is_accepted_at_its_first_attempt_and_every_question_counts() -> None:
    task = mirror_task()
    records, reader, state = run(mirror, task, confirm=CONFIRM)
    (attempt,) = of(records, AttemptRecord)
    assert (attempt.verdict, attempt.score) == ("accepted", 1.0)
    assert attempt.grids == [[[2, 1, 0], [0, 4, 3]]]
    assert attempt.confirmation["confirmed"] is True
    assert [ask["about"] for ask in attempt.confirmation["asks"]] == ["demo 1", questions_of(task)[1].about]
    (call,) = of(records, LlmCallRecord)
    assert (call.num_calls, call.prompt_tokens, call.new_tokens) == (3, 30, 15) == (len(reader.prompts), 30, 15)
    assert state["history"][0]["llm_tokens"] == 45
    assert all(pick.accepted for pick in of(records, PickRecord))
    left_out, turned = reader.prompts[1:]
    assert "1 2 0\n0 0 3\nOutput" not in left_out, "the demonstration is asked about, not shown"
    assert left_out.endswith("Test input:\n1 2 0\n0 0 3\n" + reader.prompts[0].partition("Test input:\n")[2][12:])
    assert turned != reader.prompts[0]


def questions_of(task: Task, attempt: int = 1, **confirm: int) -> list[Any]:
    from gridloom.solvers.types import derive_seed

    plan = Plan(attempt=attempt, seed=derive_seed(0, task.task_id, attempt), max_new_tokens=99)
    return questions(task, plan, Confirm.model_validate({**CONFIRM, **confirm}))


@pytest.mark.parametrize("rule", [copied, first_output, wrong_corner])
def test_wrong_model_is_never_accepted_and_costs_one_question_an_attempt(rule: Rule) -> None:
    records, reader, _ = run(rule, mirror_task(), confirm=CONFIRM, max_attempts=3, early_stop=False)
    attempts = of(records, AttemptRecord)
    assert [attempt.verdict for attempt in attempts] == ["rejected"] * 3
    assert [len(attempt.confirmation["asks"]) for attempt in attempts] == [1, 1, 1], "a wrong demonstration ends it"
    assert len(reader.prompts) == 6
    assert [attempt.confirmation["asks"][0]["about"] for attempt in attempts] == ["demo 1", "demo 2", "demo 3"]


def test_answers_that_change_with_the_view_are_not_accepted() -> None:
    """With several views one of them swaps rows and columns."""
    confirm = {"left_out": 1, "views": 7}
    records, _, _ = run(always_left_right, mirror_task(), confirm=confirm, max_attempts=1)
    (attempt,) = of(records, AttemptRecord)
    assert attempt.verdict == "rejected"
    assert "of 8 views agree" in attempt.feedback
    assert not attempt.confirmation["confirmed"]


def test_without_confirm_a_right_model_spends_all_attempts_as_before() -> None:
    records, reader, _ = run(mirror, mirror_task(), max_attempts=3, early_stop=False)
    assert [attempt.verdict for attempt in of(records, AttemptRecord)] == ["rejected"] * 3
    assert len(reader.prompts) == 3
    assert all(attempt.confirmation is None for attempt in of(records, AttemptRecord))


def test_task_of_two_test_inputs_is_accepted_when_both_are() -> None:
    records, _, _ = run(mirror, mirror_task(num_tests=2), confirm=CONFIRM, max_attempts=5)
    attempts = of(records, AttemptRecord)
    assert [(attempt.plan["focus"], attempt.verdict) for attempt in attempts] == [(0, "accepted"), (1, "accepted")]
    assert all(pick.accepted and pick.num_attempts == 2 for pick in of(records, PickRecord))


@pytest.mark.parametrize(
    ("judged", "accepted"),
    [
        ([(None, False), (None, True)], True),
        ([(0, True)], False),
        ([(0, True), (1, False), (1, True)], True),
        ([(1, True), (0, False)], False),
        ([], False),
    ],
)
def test_task_is_accepted_by_an_attempt_at_all_or_by_one_at_each(judged: Any, accepted: bool) -> None:
    assert accepts_task(judged, 2) is accepted


def test_accepted_test_inputs_are_not_asked_again() -> None:
    calls = []

    def three_right(given: np.ndarray, demos: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        calls.append(given)
        return mirror(given, demos) if len(calls) <= 3 else given

    records, _, _ = run(three_right, mirror_task(num_tests=2), confirm=CONFIRM, max_attempts=4, early_stop=False)
    focus = [(attempt.plan["focus"], attempt.verdict) for attempt in of(records, AttemptRecord)]
    assert focus[0] == (0, "accepted")
    assert [where for where, _ in focus[1:]] == [1, 1, 1]


def test_questions_stop_where_the_budget_of_tokens_is_spent() -> None:
    records, reader, _ = run(mirror, mirror_task(), confirm=CONFIRM, budget={"tokens": 30})
    (attempt,) = of(records, AttemptRecord)
    assert len(reader.prompts) == 2, "15 tokens for the answer, 15 for the first question, none for the second"
    assert attempt.verdict == "rejected"


def test_one_demonstration_cannot_be_left_out_and_no_question_confirms_nothing() -> None:
    task = mirror_task()
    one = Task(task_id="one", subset="evaluation", demos=task.demos[:1], tests=task.tests)
    assert [question.demo for question in questions_of(one, left_out=3, views=2)] == [None, None]
    assert [question.demo for question in questions_of(task, left_out=9, views=0)] == [0, 1, 2]
    records, _, _ = run(mirror, one, confirm={"left_out": 1, "views": 0}, max_attempts=1)
    assert of(records, AttemptRecord)[0].verdict == "rejected"


def test_views_keep_black_and_differ() -> None:
    views = [question.view for question in questions_of(mirror_task(), left_out=0, views=7)]
    assert sorted(view.dihedral for view in views) == [1, 2, 3, 4, 5, 6, 7]
    assert all(view.colours[0] == 0 for view in views)


@pytest.fixture
def alone(tmp_path: Any, llama: Any) -> Place:
    made = place(tmp_path / "place", llama)
    made.write_alone(confirm=CONFIRM, reason={"max_new_tokens": 99})
    return made


@pytest.mark.parametrize("rule", [mirror, copied])
def test_stage_records_what_a_replay_repeats_without_the_model(alone: Place, rule: Rule) -> None:
    artifact, _ = alone.solve(write=lambda *_: Services(TextProposer(), PromptReader(rule)))
    attempts = alone.ledger.read(AttemptRecord)
    for attempt in attempts:
        report = replay(alone.workspace, attempt.attempt_id)
        assert report.equal, str(report)
    lines = (artifact.path / "attempts.jsonl").read_text()
    assert lines.count('"confirmed"') == len(attempts)
    accepted = {attempt.task_id for attempt in attempts if attempt.verdict == "accepted"}
    assert accepted == (set(mirror_answers()) if rule is mirror else set())
    assert alone.score(artifact)["pass1"] == (1.0 if rule is mirror else 0.0)


def test_live_replay_asks_no_more_than_the_budget_of_tokens_left(
    tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = place(tmp_path / "place", llama)
    made.write_alone(confirm=CONFIRM, reason={"max_new_tokens": 99}, budget={"tokens": 75})
    made.solve(write=lambda *_: Services(TextProposer(), PromptReader(always_left_right)))
    recorded = {one.attempt: one for one in made.ledger.read(AttemptRecord, task_id="aaaa0001")}
    asked = {number: len((one.confirmation or {}).get("asks", ())) for number, one in recorded.items()}
    assert asked == {1: 2, 2: 1}, "45 tokens for the first attempt, 15 for the second text, 15 for a question"
    reader = PromptReader(always_left_right)
    monkeypatch.setattr(Replayer, "load", lambda *_: Services(TextProposer(), reader))
    for number, count in asked.items():
        reader.prompts.clear()
        report = replay(made.workspace, recorded[number].attempt_id, live=True)
        assert len(reader.prompts) == 1 + count
        assert report.equal, str(report)
