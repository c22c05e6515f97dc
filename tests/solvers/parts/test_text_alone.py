"""A language model that solves without a TRM: the grids it writes, its parse failures, replay, resume, scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from solve_support import RUN, Place, Stop, dataset, mirror_answers, place

from gridloom.errors import ModelError, StageInterrupted
from gridloom.runtime.data.arc.prompts import GRID_ALONE, BuiltPrompt, grid_text
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.parts.scripted import ScriptedReasoner
from gridloom.solvers.parts.services import Services
from gridloom.solvers.parts.text_proposer import TextProposer
from gridloom.solvers.replay.replay import replay, replay_failed
from gridloom.solvers.types import Candidate, FinishedAttempt, Plan, Reasoning
from gridloom.specs.solver import Solver
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import AttemptRecord, LlmCallRecord, TrmStepRecord

Write = Callable[[str, int, int], str]
"""(task id, test input, attempt) -> what the model writes."""


@dataclass(slots=True)
class Writer(ScriptedReasoner):
    """A scripted LLaMA whose states nothing reads and whose text depends on task, test input and attempt."""

    hidden_size: int = 0
    write: Write = lambda task_id, focus, attempt: ""

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        self.texts = [self.write(prompt.text.split()[0], plan.focus, plan.attempt)]
        return await ScriptedReasoner.reason(self, prompt, plan, prefix)


def write_with(write: Write) -> Any:
    return lambda *_: Services(TextProposer(), Writer(write=write))


def right(task_id: str, focus: int, _attempt: int) -> str:
    return f"The rule mirrors.\n{grid_text(mirror_answers()[task_id][focus])}\n"


def results_of(made: Place) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.root / f"report-{RUN}" / "results.json").read_text())
    return found


@pytest.fixture
def alone(tmp_path: Path, llama: Path) -> Place:
    made = place(tmp_path / "place", llama)
    made.write_alone()
    return made


def test_model_that_writes_the_right_grids_scores_all(alone: Place) -> None:
    artifact, _ = alone.solve(write=write_with(right))
    report = alone.score(artifact)
    assert (report["pass1"], report["pass2"]) == (1.0, 1.0)
    results = results_of(alone)
    assert results["summary"] == {"total": 3, "correct": 3, "accuracy": 1.0}
    assert results["config"] == {
        "model_name": "scripted",
        "subset": None,
        "max_attempts": 3,
        "num_problems": 3,
        "data": "mirror 1",
    }
    assert (results["parse_failures"], results["tokens"] > 0, results["seconds"] > 0) == (0, True, True)
    first = results["results"][0]
    assert first["problem_id"] == "aaaa0001"
    assert first["predictions"][0][0] == mirror_answers()["aaaa0001"][0].tolist()
    assert {"correct", "accepted", "attempts", "texts", "parse_failures", "tokens", "seconds"} < set(first)
    assert results["timestamp"].endswith("+00:00")


def test_garbage_scores_nothing_and_every_parse_failure_counts(alone: Place) -> None:
    artifact, _ = alone.solve(write=write_with(lambda *_: "I am sure: 10 and 11\nrow x y"))
    report = alone.score(artifact)
    assert (report["pass2"], report["solved"]) == (0.0, [])
    results = results_of(alone)
    assert results["summary"] == {"total": 3, "correct": 0, "accuracy": 0.0}
    assert results["parse_failures"] == 9
    assert [one["predictions"] for one in results["results"]] == [[[]], [[], []], [[]]]
    submission = json.loads((artifact.path / "submission.json").read_text())
    assert submission["bbbb0002"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2


def test_test_inputs_take_turns_and_each_is_judged_by_its_own_grid(alone: Place) -> None:
    alone.solve(write=write_with(right))
    asked = [
        (a.attempt, a.plan["focus"], [bool(g) for g in a.grids])
        for a in alone.ledger.read(AttemptRecord)
        if a.task_id == "bbbb0002"
    ]
    assert asked == [(1, 0, [True, False]), (2, 1, [False, True]), (3, 0, [True, False])]
    for attempt in alone.ledger.read(AttemptRecord):
        assert attempt.score == 1.0, "form, size and colours of the right grid are right"
        assert attempt.verdict == "rejected", "rules alone accept nothing"
        assert attempt.latent is None
        assert attempt.checkpoint_key == "sha256:words"


def test_feedback_tells_only_of_attempts_at_the_same_test_input(alone: Place) -> None:

    made = load_llm_services(alone.node.models["llama"], _settings(alone), "cpu", alone.root)
    assert made.reasoner is not None

    earlier = [
        FinishedAttempt(
            attempt=1,
            only=0,
            candidates=((Candidate(grid=[[7]], source="llama", votes=1, num_views=1),), ()),
            weights=((0.5,), ()),
            score=0.5,
            accepted=False,
            feedback="first went wrong",
        ),
        FinishedAttempt(
            attempt=2,
            only=1,
            candidates=((), ()),
            weights=((), ()),
            score=0.0,
            accepted=False,
            feedback="second went wrong",
        ),
    ]
    plan = Plan(attempt=3, seed=0, focus=0, feedback=True)
    prompt = made.reasoner.prompt(dataset().tasks[1], plan, earlier)
    assert "first went wrong" in prompt.text
    assert "second went wrong" not in prompt.text
    assert prompt.text.endswith(GRID_ALONE)


def _settings(made: Place) -> Any:

    return Solver.model_validate_json(json.dumps(made.node.spec["solver"]))


def test_real_small_llama_solves_stops_resumes_and_replays(tmp_path: Path, llama: Path) -> None:
    whole = place(tmp_path / "whole", llama)
    whole.write_alone(str(llama))
    artifact, _ = whole.solve()
    attempts = whole.ledger.recorded_attempts(RUN, "solve")
    assert len(attempts) == 9
    assert all(a.prompt and a.latent is None and set(a.geometry["digests"]) == {"propose", "verify"} for a in attempts)
    calls = whole.ledger.read(LlmCallRecord, run_id=RUN)
    assert sum(call.new_tokens for call in calls) > 0
    assert whole.ledger.read(TrmStepRecord, run_id=RUN) == []

    stopped = place(tmp_path / "stopped", llama)
    stopped.write_alone(str(llama))
    with pytest.raises(StageInterrupted):
        stopped.solve(stop=Stop(after=9))
    continued, _ = stopped.solve()
    assert _files(continued) == _files(artifact)

    report = replay(whole.workspace, "bbbb0002.2")
    assert report.equal
    assert [node.name for node in report.nodes] == ["propose", "verify"]
    live = replay(whole.workspace, "bbbb0002.2", live=True)
    assert live.equal, str(live)
    assert [node.name for node in live.nodes] == ["reason", "propose", "verify"]
    assert all(one.equal for one in replay_failed(whole.workspace))
    fork = replay(whole.workspace, "bbbb0002.2", live=True, overrides=["temperature=2.0"])
    assert fork.fork_id == "bbbb0002.2+1"


def _files(artifact: Artifact) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in artifact.path.iterdir() if p.name != "manifest.json"}


@pytest.mark.parametrize("text", ["", "7 " * 10_000, "1 2\n" * 5_000], ids=["nothing", "one long line", "5,000 lines"])
def test_model_that_writes_nothing_or_far_too_much_is_a_parse_failure(alone: Place, text: str) -> None:
    artifact, _ = alone.solve(write=write_with(lambda *_: text))
    report = alone.score(artifact)
    assert (report["pass2"], results_of(alone)["parse_failures"]) == (0.0, 9)
    assert all(attempt.text == text for attempt in alone.ledger.read(AttemptRecord))


def test_network_that_gives_nan_stops_the_solve_with_its_task(tmp_path: Path) -> None:
    made = Place(tmp_path / "place", with_llama=False)

    def load(*arguments: Any) -> Services:
        services = load_services(*arguments)
        services.proposer.bundle.network.q_head.bias.data.fill_(float("nan"))  # type: ignore[attr-defined]
        return services

    with pytest.raises(ModelError, match=r"gave a value that is not finite on task aaaa0001[\s\S]*earlier checkpoint"):
        made.solve(load=load)
    assert made.ledger.read(AttemptRecord) == []
