"""Replays of real recorded attempts: bit-equal from the record, live, forked, and refused with a reason."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import store_cases
import torch
from hypothesis import given
from hypothesis import strategies as st
from progress_support import Reporter
from solve_support import RUN, SOLVER, Place, dataset, make_bundle, place

from gridloom.errors import ReplayError
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.models.steps import Halting
from gridloom.solvers.loop.recording import AttemptScope
from gridloom.solvers.parts.batch import make_rows
from gridloom.solvers.parts.proposer import TrmAnswer, TrmCall
from gridloom.solvers.parts.runners import PlacedCall, frames, run_placed, run_rows
from gridloom.solvers.replay.replay import Replayer, replay, replay_failed
from gridloom.solvers.replay.report import Recorded, ReplayReport, compare_reasoning, first_difference, grid_difference
from gridloom.solvers.types import Plan, Reasoning
from gridloom.stores.artifacts import Artifact
from gridloom.stores.attempt import Attempt
from gridloom.stores.records import AttemptRecord, ReplayRecord

Solved = tuple[Place, Artifact, Reporter]


def test_every_failed_attempt_replays_bit_equal(solved: Solved) -> None:
    made, _, _ = solved
    reports = list(replay_failed(made.workspace, run_id=RUN, progress=Reporter()))
    assert len(reports) == 9
    for report in reports:
        assert report.equal, str(report)
        assert report.grids_equal
        assert report.verdict_equal
        assert [node.name for node in report.nodes] == ["adapt", "propose", "verify"]
        assert all(node.detail.startswith("bit-equal") for node in report.nodes)
    kept = made.ledger.read(ReplayRecord, run_id=RUN)
    assert {record.attempt_id for record in kept} >= {report.attempt_id for report in reports}


def test_replay_from_the_record_needs_no_llama(solved: Solved, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = solved
    monkeypatch.setattr("gridloom.runtime.models.language.llama.Llama.load", None)
    report = replay(made.workspace, "bbbb0002.2")
    assert report.equal
    assert "bit-equal" in str(report)
    assert "same grid, same verdict" in str(report)


def test_replay_uses_the_recorded_number_of_threads(solved: Solved) -> None:
    made, _, _ = solved
    torch.set_num_threads(2)
    try:
        assert replay(made.workspace, "aaaa0001.1").equal
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_trm_alone_replays_bit_equal(tmp_path: Path) -> None:
    alone = Place(tmp_path / "trm", with_llama=False)
    alone.solve()
    report = replay(alone.workspace, "cccc0003.3")
    assert report.equal
    assert [node.name for node in report.nodes] == ["propose", "verify"]


def test_live_replay_runs_the_llama_and_is_equal_where_nothing_changed(
    solved: Solved, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = solved
    monkeypatch.chdir(made.root)
    report = replay(made.workspace, "aaaa0001.2", live=True)
    assert [node.name for node in report.nodes] == ["reason", "adapt", "propose", "verify"]
    assert report.equal, str(report)


def test_live_replay_with_another_temperature_names_the_first_node_that_differs_and_forks(
    solved: Solved, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = solved
    monkeypatch.chdir(made.root)
    report = replay(made.workspace, "aaaa0001.3", live=True, overrides=["temperature=4.5", "seed=3"])
    assert report.first_divergence == "reason"
    assert report.nodes[0].detail.startswith("text differs from character")
    assert report.changes["temperature"] == (0.6, 4.5)
    assert report.fork_id is not None
    (fork,) = [row for row in made.ledger.read(AttemptRecord, run_id=RUN) if row.attempt_id == report.fork_id]
    assert (fork.parent, fork.attempt, fork.plan["temperature"]) == ("aaaa0001.3", 3, 4.5)
    assert replay(made.workspace, report.fork_id).equal, "a fork is recorded like any attempt"


def test_forks_of_the_trm_need_no_llama_and_count_up(solved: Solved) -> None:
    made, _, _ = solved
    first = replay(made.workspace, "cccc0003.1", overrides=["act_steps=1"])
    second = replay(made.workspace, "cccc0003.1", overrides=["views=6"])
    assert first.first_divergence == "propose"
    assert (first.fork_id, second.fork_id) == ("cccc0003.1+1", "cccc0003.1+2")
    assert len(second.changes["views"][1]) == 6
    assert "forked from cccc0003.1" in str(first)


def test_two_forks_of_one_attempt_at_once_have_two_numbers(solved: Solved, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = solved
    both, real = threading.Barrier(2), AttemptScope.of_fork

    def numbered(row: AttemptRecord, fork: int) -> AttemptScope:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # both are here only where nothing keeps the second from the number of the first
        return real(row, fork)

    monkeypatch.setattr(AttemptScope, "of_fork", numbered)

    def fork(steps: int) -> ReplayReport:
        return replay(made.workspace, "cccc0003.2", overrides=[f"act_steps={steps}"])

    with ThreadPoolExecutor(2) as pool:
        reports = [*pool.map(fork, (1, 2))]
    assert {report.fork_id for report in reports} == {"cccc0003.2+1", "cccc0003.2+2"}
    forks = [row for row in made.ledger.read(AttemptRecord, run_id=RUN) if row.parent == "cccc0003.2"]
    assert sorted(fork.plan["act_steps"] for fork in forks) == [1, 2]


def test_forks_are_no_attempts_of_the_loop(solved: Solved) -> None:
    made, _, _ = solved
    replay(made.workspace, "bbbb0002.1", overrides=["act_steps=2"])
    assert len(made.ledger.recorded_attempts(RUN, "solve")) == 9
    failed = [report.attempt_id for report in replay_failed(made.workspace, run_id=RUN)]
    assert len(failed) == 9


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("temprature=1", "did you mean 'temperature'"),
        ("temperature", "is not KEY=VALUE"),
        ("temperature=0.9", "add --live"),
        ("act_steps=many", "act_steps=many"),
        ("act_steps=99999999999999999999", "act_steps is too large: 99999999999999999999"),
        ("act_steps=1e30", "act_steps is too large: 1e30"),
        ("views=99999999999999999999", "views is too large"),
        ("patience=99999999999999999999", "patience is too large"),
    ],
)
def test_wrong_override_is_named_with_its_remedy(solved: Solved, override: str, said: str) -> None:
    made, _, _ = solved
    with pytest.raises(ReplayError, match=said):
        replay(made.workspace, "aaaa0001.1", overrides=[override])


def test_unknown_attempt_names_the_recorded_ones(solved: Solved) -> None:
    made, _, _ = solved
    with pytest.raises(ReplayError, match=r"unknown attempt 'aaaa0001\.9'[\s\S]*aaaa0001\.1"):
        replay(made.workspace, "aaaa0001.9")


def test_missing_checkpoint_says_how_to_make_it_again(tmp_path: Path) -> None:
    alone = Place(tmp_path / "trm", with_llama=False)
    alone.solve()
    shutil.rmtree(alone.checkpoint.path)
    with pytest.raises(ReplayError, match=r"checkpoint gl1:joint of attempt aaaa0001\.1[\s\S]*gridloom run mini"):
        replay(alone.workspace, "aaaa0001.1")


def test_other_torch_or_device_is_noted(solved: Solved) -> None:
    made, _, _ = solved
    replayer = Replayer(made.workspace)
    recorded = next(r for r in replayer.recorded(RUN) if r.row.attempt_id == "aaaa0001.1")
    recorded.row.geometry.update(torch="1.0", device="cuda:7", device_name="some GPU")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    report = replayer.replay_frame([recorded])[0]
    assert any("torch 1.0" in note for note in report.notes)
    assert any("replayed on cpu" in note for note in report.notes)


def test_changed_weights_are_found_at_the_first_node_they_touch(tmp_path: Path, llama: Path) -> None:
    """The record compares bits, so a checkpoint that is not the recorded one cannot pass for it."""
    made = place(tmp_path / "made", llama)
    made.solve()
    replayer = Replayer(made.workspace)
    assert replayer.replay_attempt("aaaa0001.1").equal
    (services,) = replayer._services.values()
    with torch.no_grad():
        services.proposer.bundle.part("text_to_latent").out.bias += 1e-3  # type: ignore[attr-defined]
    services.proposer._injections.clear()  # type: ignore[attr-defined]
    report = replayer.replay_attempt("aaaa0001.1")
    assert report.first_divergence == "adapt"


@pytest.mark.parametrize("alone", [True, False])
def test_rows_placed_among_blanks_are_bit_equal_to_the_shared_batch(alone: bool) -> None:
    """What stands beside a row changes none of its bits, given the batch's shape and the row's place."""
    torch.set_num_threads(1)
    bundle, tasks = make_bundle(), dataset().tasks
    ids = bundle.puzzle_ids.index
    plan = Plan(attempt=1, seed=0, views=("t1|||0123456789", "t4|||0213456789"))
    latents = torch.randn(3, 1, 16, generator=torch.Generator().manual_seed(0))
    assert bundle.part("text_to_latent") is not None
    calls = [
        TrmCall(
            make_rows(task, plan, bundle.network.canvas, ids),
            None if alone else bundle.part("text_to_latent")(latent, bundle.network),
            None,
            Halting(),
        )
        for task, latent in zip(tasks, latents, strict=True)
    ]
    with torch.no_grad():
        shared = run_rows(bundle.network, calls)
    placed = [
        PlacedCall(call, answer.geometry["batch_rows"], answer.geometry["first_row"])
        for call, answer in zip(calls, shared, strict=True)
    ]
    for chosen in ([0], [1], [2], [2, 0], [1, 2], [2, 1, 0]):
        again = run_placed(bundle.network, [placed[index] for index in chosen])
        for index, answer in zip(chosen, again, strict=True):
            assert answer.results.digest(b"") == shared[index].results.digest(b"")
            assert torch.equal(answer.z_H, shared[index].z_H)


def test_attempts_of_one_recorded_batch_are_replayed_in_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Place(tmp_path / "trm", with_llama=False, settings={**SOLVER, "in_flight": 3})
    made.solve()
    batches: list[int] = []

    def counted(trm: TRM, placed: Sequence[PlacedCall]) -> list[TrmAnswer]:
        batches.append(len(placed))
        return run_placed(trm, placed)

    monkeypatch.setattr("gridloom.solvers.parts.runners.run_placed", counted)
    assert all(report.equal for report in replay_failed(made.workspace, run_id=RUN))
    assert batches == [3, 3, 3], "three tasks in flight, three attempts each"
    forks = list(replay_failed(made.workspace, run_id=RUN, overrides=["act_steps=1"]))
    assert batches[3:] == [3, 3, 3]
    attempts = made.ledger.recorded_attempts(RUN, "solve")
    assert sorted(fork.fork_id or "" for fork in forks) == sorted(f"{attempt.attempt_id}+1" for attempt in attempts)
    assert all(fork.changes["act_steps"][1] == 1 for fork in forks)


def test_latent_that_differs_is_told_with_the_batch_it_was_recorded_in() -> None:
    was, now = (np.array([1.0, value], dtype=np.float16).tobytes() for value in (2.0, 2.5))

    def recorded(batch_rows: int) -> Recorded:
        geometry = {"reason": {"batch_rows": batch_rows, "row": 0}}
        row = store_cases.attempt(prompt="p", text="t", latent=was, geometry=geometry)
        return Recorded(Attempt(row=row), store_cases.task("aaaa0001"))

    live = Reasoning(prompt="p", text="t", latent=now, prompt_tokens=1, new_tokens=1)
    said = compare_reasoning(recorded(4), live)
    assert said.detail == "same text; latent differs by up to 0.5 (largest value 2); recorded in a batch of 4"
    assert not compare_reasoning(recorded(1), live).detail.endswith("batch of 1")


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=20))
def test_frames_hold_every_span_once_and_never_overlap(spans: list[tuple[int, int]]) -> None:
    spans = [(start, start + length) for start, length in spans]
    found = frames(spans)
    assert sorted(index for frame in found for index in frame) == list(range(len(spans)))
    for frame in found:
        for before, after in itertools.pairwise(frame):
            assert spans[before][1] <= spans[after][0]


def test_differences_are_told_by_place() -> None:
    assert grid_difference([[1, 2]], [[1, 2]]) == ""
    assert grid_difference([[1, 2]], [[1, 3]]) == "1 of 2 cells differ: (1,2) 2 -> 3"
    assert grid_difference([[1, 2]], []) == "1x2 -> no grid"
    assert grid_difference(np.zeros((2, 3), int).tolist(), np.ones((2, 3), int).tolist()).endswith(", ...")
    assert first_difference("abc", "abd") == 3
    assert first_difference("abc", "ab") == 3


def test_replay_from_a_node_executes_it_and_what_follows(solved: Solved, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _, _ = solved
    monkeypatch.chdir(made.root)
    for node, names in (
        ("reason", ["reason", "adapt", "propose", "verify"]),
        ("adapt", ["adapt", "propose", "verify"]),
        ("propose", ["propose", "verify"]),
    ):
        report = replay(made.workspace, "bbbb0002.2", from_node=node)
        assert [one.name for one in report.nodes] == names
        assert report.equal, str(report)


def test_replay_from_verify_judges_the_recorded_proposal_without_any_model(
    solved: Solved, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, _ = solved
    monkeypatch.setattr("gridloom.solvers.replay.replay.load_services", None)
    for number in (1, 2, 3):
        report = replay(made.workspace, f"bbbb0002.{number}", from_node="verify")
        assert [(one.name, one.equal) for one in report.nodes] == [("verify", True)]
        assert report.grids_equal
    assert sum(report.equal for report in replay_failed(made.workspace, run_id=RUN, from_node="verify")) == 9
    monkeypatch.setattr("gridloom.solvers.verifiers.judge.weighted_mean", lambda *_: 0.123)
    changed = replay(made.workspace, "bbbb0002.2", from_node="verify")
    assert changed.first_divergence == "verify"
    assert "-> 0.12, rejected" in str(changed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"from_node": "plan"}, "no replay begins at 'plan'"),
        ({"from_node": "adapt", "live": True}, "--live runs the LLaMA, which --from-node adapt leaves out"),
        ({"from_node": "verify", "overrides": ["views=2"]}, "--set changes the proposal"),
    ],
)
def test_node_that_goes_with_nothing_else_is_refused(solved: Solved, options: dict[str, Any], said: str) -> None:
    made, _, _ = solved
    with pytest.raises(ReplayError, match=said):
        replay(made.workspace, "aaaa0001.1", **options)


def test_node_that_an_attempt_never_ran_or_kept_nothing_for_is_refused(tmp_path: Path) -> None:
    eager = Place(tmp_path / "eager", with_llama=False, settings={**SOLVER, "verifier": {"accept": 0.0}})
    eager.solve()
    with pytest.raises(ReplayError, match="was made without a LLaMA"):
        replay(eager.workspace, "aaaa0001.1", from_node="reason")
    assert replay(eager.workspace, "aaaa0001.1", from_node="verify").equal, "the last checkpoint of an accepted task"
    fork = replay(eager.workspace, "aaaa0001.1", overrides=["views=1"]).fork_id
    assert fork is not None
    with pytest.raises(ReplayError, match="no checkpoint of attempt"):
        replay(eager.workspace, fork, from_node="verify")
