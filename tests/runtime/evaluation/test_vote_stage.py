"""The two halves of an evaluation on ARC tasks: votes without answers, and what is counted against them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vote_support
from graph_counter import count_graphs
from solve_support import Stop
from vote_support import VotePlace

from gridloom.errors import ModelError, StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.tokens import encode
from gridloom.runtime.data.arc.views import parse_name
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.evaluation.summary import summarise
from gridloom.runtime.interop.result_files import check_submission
from gridloom.runtime.models.recursive import torch_compile as compiled
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.steps import Answers, Rows
from gridloom.specs.stages import EvaluateStage
from gridloom.stores.evaluation_records import EvaluationRecord, PredictionRecord
from gridloom.stores.records import MetricRecord


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> VotePlace:
    """A checkpoint that has learnt some tasks by heart, whose test inputs are demonstrations."""
    return VotePlace(tmp_path_factory.mktemp("votes"))


@pytest.fixture(scope="module")
def whole(made: VotePlace) -> Path:
    """The artifact of an uninterrupted stage that asks every view."""
    return made.vote("whole", early_stop=False)


def votes_of(folder: Path) -> dict[str, Any]:
    tasks: dict[str, Any] = json.loads((folder / "votes.json").read_text())["tasks"]
    return tasks


def test_votes_equal_those_of_rows_run_one_by_one(made: VotePlace, whole: Path) -> None:
    bundle = load_bundle(made.checkpoint.path)
    for task in made.dataset.tasks:
        names = [name for name in bundle.puzzle_ids.names if name.startswith(task.task_id)]
        assert len(names) == 8
        for test_index, test in enumerate(task.tests):
            ballots = Ballots(len(names))
            for name in names:
                view = parse_name(name)[1]
                found = made.answer(bundle, encode(view.apply(test), made.dataset.canvas), name)
                ballots.add(None if found[0] is None else view.inverse(found[0]), found[1])
            told = votes_of(whole)[task.task_id][test_index]["candidates"]
            assert [(c["grid"], c["votes"]) for c in told] == [(s.grid.tolist(), s.votes) for s in ballots.ranked()]
            assert [c["confidence"] for c in told] == pytest.approx([s.confidence for s in ballots.ranked()], abs=1e-4)


def test_early_stop_leaves_rows_out_and_changes_neither_pick(made: VotePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    names = load_bundle(made.checkpoint.path).puzzle_ids.names

    def scripted(network: RecursiveNetwork, rows: Rows, *_: Any) -> Answers:
        """Five views for one grid, then two for another, then one for a third."""
        tokens = []
        for puzzle in rows.puzzle_ids.tolist():
            task_id, view = parse_name(names[puzzle])
            turn = [name for name in names if name.startswith(task_id)].index(names[puzzle])
            grid = np.full((1, 2), 0 if turn < 5 else 1 if turn < 7 else 2, dtype=np.uint8)
            tokens.append(encode(view.apply(grid), network.canvas))
        run = len(rows.inputs)
        return Answers(torch.from_numpy(np.stack(tokens)), torch.zeros(run), torch.ones(run, dtype=torch.int32), run)

    monkeypatch.setattr(RecursiveNetwork, "answer", scripted)
    first = made.vote("first-scripted", early_stop="first", batch_size=4)
    assert {t["num_cast"] for tests in votes_of(first).values() for t in tests} == {5}, "no three can reach five"
    assert json.loads((first / "votes.json").read_text())["evaluated"]["early_stop"] == "first"
    early = made.vote("early-scripted", batch_size=4)
    whole = made.vote("whole-scripted", early_stop=False, batch_size=4)
    casts = {f: {t["num_cast"] for tests in votes_of(f).values() for t in tests} for f in (early, whole)}
    assert casts == {early: {7}, whole: {8}}
    for task_id, tests in votes_of(whole).items():
        for full, short in zip(tests, votes_of(early)[task_id], strict=True):
            assert [c["grid"] for c in full["candidates"][:2]] == [c["grid"] for c in short["candidates"][:2]]
    assert (early / "submission.json").read_bytes() == (whole / "submission.json").read_bytes()


def test_submission_is_whole(made: VotePlace, whole: Path) -> None:
    check_submission(whole / "submission.json", made.dataset.tasks)


def test_views_limits_who_votes(made: VotePlace) -> None:
    few = made.vote("few", views=3, early_stop=False)
    assert {t["num_views"] for tests in votes_of(few).values() for t in tests} == {3}


def test_a_compiled_network_votes_alike_from_one_graph_for_any_number_of_rows(
    made: VotePlace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = count_graphs(monkeypatch)
    # the plain stage runs these 32 rows 16 at a time; here it is 5, and 2 in the last batch
    found = made.vote("compiled", early_stop=False, batch_size=5, compile="on")
    assert len(graphs) == 1
    assert not [line for line in made.said["compiled"] if "compile" in line]
    for task_id, tests in votes_of(whole).items():
        for plain, one in zip(tests, votes_of(found)[task_id], strict=True):
            assert [(c["grid"], c["votes"]) for c in one["candidates"]] == [
                (c["grid"], c["votes"]) for c in plain["candidates"]
            ]
            assert [c["confidence"] for c in one["candidates"]] == pytest.approx(
                [c["confidence"] for c in plain["candidates"]], abs=1e-4
            )


def test_a_compiler_that_fails_later_leaves_the_votes_to_the_plain_loop(
    made: VotePlace, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fails_later(graph: Any, _: Any) -> Any:
        def run(*given: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise RuntimeError("kernel 7 is gone\nmore lines")
            return graph(*given)

        return run

    monkeypatch.setattr(compiled, "BACKEND", fails_later)
    torch._dynamo.reset()
    found = made.vote("fails-later", early_stop=False, compile="on")
    assert calls == 4
    assert made.said["fails-later"] == ["torch.compile failed, going on without it: RuntimeError: kernel 7 is gone"]
    assert [[t["candidates"][0]["grid"] for t in tests] for tests in votes_of(found).values()] == [
        [t["candidates"][0]["grid"] for t in tests] for tests in votes_of(whole).values()
    ]


def test_predictions_are_in_the_ledger_one_a_view(made: VotePlace, whole: Path) -> None:
    rows = made.ledger.read(PredictionRecord, run_id="whole")
    assert len(rows) == sum(8 * len(task.tests) for task in made.dataset.tasks)
    told = votes_of(whole)["bbbb0002"][1]["candidates"][0]
    assert sum(r.grid == told["grid"] for r in rows if (r.task_id, r.test_index) == ("bbbb0002", 1)) == told["votes"]


def test_stopped_stage_goes_on_behind_the_last_batch(made: VotePlace) -> None:
    unbroken = made.vote("unbroken", batch_size=5)
    for batches in (1, 2):
        with pytest.raises(StageInterrupted, match="SIGINT"):
            made.vote("stopped", batch_size=5, stop=Stop(after=batches))
    saved = made.root / "work-stopped" / "batches.jsonl"
    assert len(saved.read_bytes().splitlines()) == 3
    with saved.open("ab") as file:
        file.write(b'{"cursor":[0,')  # the line that a killed process was writing
    continued = made.vote("stopped", batch_size=5)
    assert (continued / "votes.json").read_bytes() == (unbroken / "votes.json").read_bytes()
    counts = {run: len(made.ledger.read(PredictionRecord, run_id=run)) for run in ("unbroken", "stopped")}
    assert counts["stopped"] == counts["unbroken"]


@pytest.mark.parametrize(
    "damage", [b'{"cursor":[0,', b'{"cursor":[0,3],"rows":[[9,0,null,0.0,3]]}', b"\xff", b"[]", b""]
)
def test_a_damaged_line_is_told_and_what_follows_it_runs_again(
    made: VotePlace, damage: bytes, request: pytest.FixtureRequest
) -> None:
    run = "damaged" + str(len(request.node.name)) + str(len(damage))
    unbroken = made.vote("unbroken", batch_size=5)
    with pytest.raises(StageInterrupted):
        made.vote(run, batch_size=5, stop=Stop(after=3))
    saved = made.root / f"work-{run}" / "batches.jsonl"
    lines = saved.read_bytes().splitlines()
    saved.write_bytes(b"\n".join((lines[0], damage, lines[2])) + b"\n")
    continued = made.vote(run, batch_size=5)
    assert any(f"line 2 of {saved} is damaged" in line and "2 batches" in line for line in made.said[run])
    assert (continued / "votes.json").read_bytes() == (unbroken / "votes.json").read_bytes()


def test_killed_stage_loses_nothing(made: VotePlace) -> None:
    unbroken = made.vote("unbroken", batch_size=5)
    script = Path(vote_support.__file__)
    command = [sys.executable, str(script), str(made.root), "killed", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"hangs\n"
        process.send_signal(signal.SIGKILL)
    continued = made.vote("killed", batch_size=5)
    assert (continued / "votes.json").read_bytes() == (unbroken / "votes.json").read_bytes()


def test_noise_for_answers_changes_no_vote_and_every_count(made: VotePlace, whole: Path) -> None:
    right, noise = made.count("right", whole), made.count("noise", whole, answers=made.answers(noise=5))
    assert right["pass_at"]["1"] > 0, "the checkpoint knows some answers by heart"
    assert noise["pass_at"]["1000"] == 0
    assert right["votes"] == noise["votes"]


def test_report_metrics_and_evaluations_agree(made: VotePlace, whole: Path) -> None:
    report = made.count("agree", whole)
    assert set(report["pass_at"]) == {"1", "2", "5", "10", "100", "1000"}
    assert (report["num_tasks"], report["num_test_inputs"]) == (3, 4)
    assert json.loads((made.root / "report-agree" / "eval_results.json").read_text()) == {
        "accuracy": report["pass_at_of_test_inputs"]["1"],
        "avg_loss": None,
        "avg_steps": report["evaluated"]["mean_act_steps"],
        "total_examples": 4,
    }
    shares = {m.name: m.value for m in made.ledger.read(MetricRecord, run_id="agree")}
    assert shares["pass2"] == report["pass_at"]["2"]
    rows = made.ledger.read(EvaluationRecord, run_id="agree")
    assert len(rows) == 4
    assert sum(row.rank is not None and row.rank < 2 for row in rows) == 4 * report["pass_at_of_test_inputs"]["2"]


def test_early_stop_tells_only_what_it_cannot_change(made: VotePlace, whole: Path) -> None:
    early = made.count("early", made.vote("early", batch_size=4))
    full = made.count("agree", whole)
    assert set(early["pass_at"]) == {"1", "2"}
    assert {k: full["pass_at"][k] for k in ("1", "2")} == early["pass_at"]


def test_shares_are_means_over_tasks_of_means_over_test_inputs() -> None:
    def test(rank: int | None) -> dict[str, Any]:
        return {"rank": rank, "shape_match": rank == 0, "cell_accuracy": 0.5, "num_cast": 8, "num_views": 8}

    report = summarise({"a": [test(0)], "b": [test(1), test(None)], "c": [test(7)]}, (1, 2, 10))
    assert report["pass_at"] == {"1": pytest.approx(1 / 3), "2": pytest.approx(1.5 / 3), "10": pytest.approx(2.5 / 3)}
    assert report["pass_at_of_test_inputs"] == {"1": 0.25, "2": 0.5, "10": 0.75}
    assert report["solved"] == ["a"]


def test_missing_answer_is_named(made: VotePlace, whole: Path) -> None:
    answers = made.answers()
    del answers["bbbb0002"]
    with pytest.raises(StageError, match="no answer for 1 tasks, first bbbb0002"):
        made.count("missing", whole, answers=answers)


def test_damaged_votes_are_one_clear_error(made: VotePlace, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "votes.json").write_text((whole / "votes.json").read_text()[:50])
    with pytest.raises(StageError, match=r"cannot read .*votes\.json"):
        made.count("damaged", tmp_path)


def test_network_that_gives_no_number_names_the_task(tmp_path: Path) -> None:
    made = VotePlace(tmp_path / "votes", spoil=True)
    with pytest.raises(ModelError, match=r"not finite on task aaaa0001"):
        made.vote("spoilt")


@pytest.mark.parametrize(
    ("early_stop", "rule"), [(None, "exact"), (True, "exact"), (False, None), ("first", "first"), ("likely", "likely")]
)
def test_early_stop_names_the_rule_by_which_views_are_left_out(early_stop: Any, rule: str | None) -> None:
    assert EvaluateStage.model_validate({"with": "learn", "data": "arc", "early_stop": early_stop}).stop_rule == rule
