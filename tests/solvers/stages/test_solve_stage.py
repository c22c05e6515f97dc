"""The solve stage with a tiny real TRM, LLaMA and ledger: what it writes, and that no interruption loses any of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import solve_support
from progress_support import Reporter
from solve_support import RUN, Place, Stop, dataset, place, recorded_ids

from gridloom.errors import DataError, ModelError, StageInterrupted
from gridloom.runtime.data.arc.dataset import held_out_tasks
from gridloom.solvers.loop.events import AttemptShown
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import (
    AttemptRecord,
    CandidateRecord,
    LlmCallRecord,
    PickRecord,
    Record,
    TaskRecord,
    TrmStepRecord,
    VerdictRecord,
)

CLOCK = {"run_id", "started_at", "ended_at", "timings", "duration_s"}
"""Columns that tell when or in which run something happened."""
TABLES: tuple[type[Record], ...] = (
    TaskRecord,
    AttemptRecord,
    CandidateRecord,
    VerdictRecord,
    LlmCallRecord,
    TrmStepRecord,
    PickRecord,
)


def recorded(made: Place, run_id: str = RUN) -> dict[str, list[dict[str, Any]]]:
    """Every ledger row of the solve, clock columns left out."""
    return {
        kind.TABLE: [
            {name: getattr(row, name) for name in type(row).__slots__ if name not in CLOCK}
            for row in made.ledger.read(kind, run_id=run_id)
            if not getattr(row, "fork", 0)
        ]
        for kind in TABLES
    }


def files(artifact: Artifact) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in artifact.path.iterdir() if p.name != "manifest.json"}


def test_every_attempt_lands_in_the_ledger_with_all_a_replay_needs(solved: tuple[Place, Artifact, Reporter]) -> None:
    made, _, _ = solved
    attempts = made.ledger.recorded_attempts(RUN, "solve")
    assert [a.attempt_id for a in attempts] == [
        f"{task}.{n}" for task in ("aaaa0001", "bbbb0002", "cccc0003") for n in (1, 2, 3)
    ]
    for attempt in attempts:
        assert attempt.prompt
        assert attempt.latent is not None
        assert len(attempt.latent) == 2 * 16
        assert (attempt.prefix is None) == (attempt.attempt == 1)
        assert set(attempt.geometry["digests"]) == {"adapt", "propose", "verify"}
        assert {"device", "threads", "torch", "batch_rows", "rows", "canvas"} <= set(attempt.geometry)
        assert set(attempt.timings) == {"plan", "reason", "adapt", "propose", "verify"}
    calls = made.ledger.read(LlmCallRecord, run_id=RUN, fork=0)
    assert len(calls) == 9
    assert {call.prefix_tokens for call in calls} == {0, 2}
    assert len(made.ledger.read(TrmStepRecord, run_id=RUN, fork=0)) == 9 * 3


def test_check_demonstrations_are_shown_to_nobody(solved: tuple[Place, Artifact, Reporter]) -> None:
    made, _, _ = solved
    for attempt in made.ledger.recorded_attempts(RUN, "solve"):
        assert attempt.prompt is not None
        assert "3 0 1\n1 0 0\n0 2 0" not in attempt.prompt
        assert "1 0 3\n0 0 1\n0 2 0" not in attempt.prompt
        assert "Example 2" in attempt.prompt


def test_artifact_holds_picks_attempts_and_a_whole_submission(solved: tuple[Place, Artifact, Reporter]) -> None:
    made, artifact, _ = solved
    picks = outputs.read_picks(artifact.path)
    assert list(picks) == ["aaaa0001", "bbbb0002", "cccc0003"]
    assert len(picks["bbbb0002"]["tests"]) == 2
    for task in picks.values():
        for test in task["tests"]:
            assert 1 <= len(test["grids"]) <= 2
            assert test["grids"][0] != test["grids"][-1] or len(test["grids"]) == 1
    submission = json.loads((artifact.path / "submission.json").read_text())
    assert submission["aaaa0001"][0]["attempt_1"] == picks["aaaa0001"]["tests"][0]["grids"][0]
    lines = (artifact.path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["attempt_id"] for line in lines] == [
        a.attempt_id for a in made.ledger.recorded_attempts(RUN, "solve")
    ]
    assert json.loads((artifact.path / "meta.json").read_text())["num_attempts"] == 9


def test_events_and_bar_tell_of_every_attempt_and_task(solved: tuple[Place, Artifact, Reporter]) -> None:
    _, _, reporter = solved
    kinds = [type(event).__name__ for event in reporter.shown]
    assert kinds == ["TaskShown", "AttemptShown", "AttemptShown", "AttemptShown", "PicksShown"] * 3
    assert all(str(event) for event in reporter.shown)
    (bar,) = reporter.bars
    assert bar.done == 3
    assert bar.fields == {"accepted": 0, "open": 3, "attempts": 9}


def test_noise_for_answers_leaves_everything_solve_writes_unchanged(
    solved: tuple[Place, Artifact, Reporter], tmp_path: Path, llama: Path
) -> None:
    made, artifact, _ = solved
    noisy = place(tmp_path / "noise", llama, answers=7)
    other, _ = noisy.solve(run_id="another-run")
    right, noise = ((p.truth.path / "answers.json").read_bytes() for p in (made, noisy))
    assert right != noise
    assert files(other) == files(artifact)
    assert recorded(noisy, "another-run") == recorded(made)


def test_results_do_not_depend_on_the_other_tasks(
    solved: tuple[Place, Artifact, Reporter], tmp_path: Path, llama: Path
) -> None:
    made, _, _ = solved
    alone = place(tmp_path / "alone", llama)
    spec = {**alone.node.spec, "limit": 1}
    alone.node = alone.node.model_copy(update={"spec": spec})
    alone.solve()
    rows = recorded(made)
    assert recorded(alone) == {
        table: [row for row in found if row["task_id"] == "aaaa0001"] for table, found in rows.items()
    }


@pytest.mark.parametrize("after", [1, 3, 7, 20])
def test_stop_between_nodes_saves_and_the_next_run_continues(
    solved: tuple[Place, Artifact, Reporter], tmp_path: Path, llama: Path, after: int
) -> None:
    made, artifact, _ = solved
    stopped = place(tmp_path / "stopped", llama)
    with pytest.raises(StageInterrupted, match=r"stopped \(SIGINT\) with \d of 3 tasks done") as caught:
        stopped.solve(stop=Stop(after=after))
    assert caught.value.exit_code == 75
    continued, _ = stopped.solve()
    assert files(continued) == files(artifact)
    assert recorded(stopped) == recorded(made)


def test_killed_solve_loses_and_duplicates_nothing(
    solved: tuple[Place, Artifact, Reporter], tmp_path: Path, llama: Path
) -> None:
    made, artifact, _ = solved
    killed = place(tmp_path / "killed", llama)
    script = Path(solve_support.__file__)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kept: list[str] = []
    for attempts_wanted in (2, 5):
        process = subprocess.Popen(
            [sys.executable, str(script), str(killed.root), str(attempts_wanted)],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        _wait_for_attempts(killed, attempts_wanted, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = [a.attempt_id for a in killed.ledger.recorded_attempts(RUN, "solve")]
        assert kept == before[: len(kept)], "what was recorded before the last kill is still there"
        kept = before
        assert len(kept) == attempts_wanted, "it hangs in the call after"
    continued, reporter = killed.solve()
    assert [a.attempt_id for a in killed.ledger.recorded_attempts(RUN, "solve")] == [
        a.attempt_id for a in made.ledger.recorded_attempts(RUN, "solve")
    ]
    shown_again = {event.attempt.row.attempt_id for event in reporter.shown if isinstance(event, AttemptShown)} & set(
        kept
    )
    # killed after the ledger's line and before the checkpoint's, the node `record` runs once more and changes nothing
    assert shown_again <= {kept[-1]}, "no recorded attempt was made again"
    assert files(continued) == files(artifact)
    assert recorded(killed) == recorded(made), "every row, the latent prefixes bit for bit"


def _wait_for_attempts(made: Place, number: int, process: subprocess.Popen[bytes]) -> None:
    while len(recorded_ids(made.workspace)) < number:
        assert process.poll() is None, "the solve ended before it could be killed"
        time.sleep(0.01)


def test_checkpoint_without_llama_solves_with_the_trm_alone(tmp_path: Path) -> None:
    alone = Place(tmp_path / "trm", with_llama=False)
    alone.solve()
    attempts = alone.ledger.recorded_attempts(RUN, "solve")
    assert len(attempts) == 9
    assert all((a.prompt, a.text, a.latent, a.prefix) == (None, None, None, None) for a in attempts)
    assert alone.ledger.read(LlmCallRecord, run_id=RUN) == []
    assert all(set(a.timings) == {"plan", "propose", "verify"} for a in attempts)


def test_latent_changes_what_the_trm_proposes(solved: tuple[Place, Artifact, Reporter], tmp_path: Path) -> None:
    made, _, _ = solved
    alone = Place(tmp_path / "trm", with_llama=False)
    alone.solve()
    hybrid = {a.attempt_id: a.geometry["digests"]["propose"] for a in made.ledger.recorded_attempts(RUN, "solve")}
    plain = {a.attempt_id: a.geometry["digests"]["propose"] for a in alone.ledger.recorded_attempts(RUN, "solve")}
    assert not set(hybrid.values()) & set(plain.values())


def test_split_without_held_out_tests_is_named_with_those_that_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'training'[\s\S]*held out here: evaluation"):
        held_out_tasks(dataset(), "arc1", "training", None)


def test_truncated_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    broken = Place(tmp_path / "broken", with_llama=False)
    weights = broken.checkpoint.path / "trm.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match=r"trm\.safetensors is truncated"):
        broken.solve()
