"""The calibrate stage: what verifiers are worth where answers are known, and the threshold that a solve takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from progress_support import Reporter
from solve_support import RUN, Place, mirror_answers, place

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.solvers.parts.scripted import ScriptedProposer
from gridloom.solvers.parts.services import Services
from gridloom.solvers.replay.replay import replay
from gridloom.solvers.stages.calibrate import Calibrate, VerifierScores
from gridloom.solvers.stages.threshold import CALIBRATION, read_calibration
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter

RIGHT = {task_id: [grid.tolist() for grid in grids] for task_id, grids in mirror_answers().items()}
WRONG = {"aaaa0001": [[[9]]], "bbbb0002": [[[9]], [[9]]], "cccc0003": [[[9]]]}


def scripted(*attempts: dict[str, list[Any]]) -> Any:
    """Loads services whose attempt n proposes the grids of attempts[n]."""
    script = {task_id: [attempt[task_id] for attempt in attempts] for task_id in WRONG}
    return lambda *_: Services(ScriptedProposer(script, checks_right=True))


def calibrate(made: Place, attempts: Artifact, precision: float = 0.9) -> tuple[Artifact, Reporter]:
    node = StageNode(
        name="measure",
        kind="calibrate",
        version=1,
        produces="calibration",
        key="gl1:measure",
        spec={"kind": "calibrate", "attempts": "solve", "precision": precision},
        inputs={"attempts": "solve", "data": "arc1", "answers": "arc1.answers"},
    )
    with LedgerWriter(made.workspace, RUN) as writer, made.store.writing("gl1:measure") as out:
        context = made.context(writer, out)
        Calibrate().run(node, {"attempts": attempts, "answers": made.truth}, context)
        artifact = made.store.publish(
            out,
            key="gl1:measure",
            type="calibration",
            kind="calibrate",
            producer={"stage": "measure", "run_id": RUN},
            inputs={},
        )
    assert isinstance(context.progress, Reporter)
    return artifact, context.progress


def calibrated(made: Place, calibration: Artifact) -> None:
    """Let the solve node read a calibration."""
    made.given["calibration"] = calibration
    made.node = made.node.model_copy(
        update={
            "key": "gl1:calibrated",
            "spec": {**made.node.spec, "calibration": "measure"},
            "inputs": {**made.node.inputs, "calibration": "measure"},
        }
    )


@pytest.fixture
def known(tmp_path: Path) -> Place:
    return Place(tmp_path / "place", with_llama=False)


def test_threshold_separates_right_from_wrong_attempts_and_the_ledger_keeps_the_table(known: Place) -> None:
    attempts, _ = known.solve(load=scripted(WRONG, RIGHT))
    artifact, reporter = calibrate(known, attempts)
    found = json.loads((artifact.path / CALIBRATION).read_text())
    assert (found["num_attempts"], found["num_right"], found["num_tasks"]) == (6, 3, 3)
    assert (found["precision"], found["recall"], found["num_accepted"]) == (1.0, 1.0, 3)
    scores = {a.attempt: a.score for a in known.ledger.recorded_attempts(RUN, "solve")}
    assert scores[1] is not None
    assert scores[2] is not None
    assert scores[1] < found["threshold"] <= scores[2]
    rows = known.ledger.rows("select * from v_verifiers")
    assert {row["verifier"] for row in rows} == {
        "all",
        "leave_one_out",
        "agreement",
        "form",
        "shape",
        "palette",
        "confidence",
    }
    by_name = {row["verifier"]: row for row in rows}
    assert (by_name["all"]["precision"], by_name["all"]["solve_stage"]) == (1.0, "solve")
    assert (by_name["shape"]["precision"], by_name["agreement"]["precision"]) == (1.0, 0.5)
    curve = known.ledger.rows("select threshold, recall from calibrations where verifier = 'all' order by threshold")
    assert [row["recall"] for row in curve] == sorted((row["recall"] for row in curve), reverse=True)
    assert "6 attempts at 3 tasks, 3 of them right" in reporter.lines[0]


def test_solve_accepts_from_the_calibrated_score_and_says_so(known: Place) -> None:
    attempts, _ = known.solve(load=scripted(WRONG, RIGHT))
    artifact, _ = calibrate(known, attempts)
    path = artifact.path / CALIBRATION
    threshold = json.loads(path.read_text())["threshold"]
    calibrated(known, artifact)
    other, _ = known.solve(run_id="calibrated", load=scripted(WRONG, RIGHT))
    made = known.ledger.recorded_attempts("calibrated", "solve")
    assert [a.verdict for a in made] == ["rejected", "accepted"] * 3
    assert {a.geometry["accept"] for a in made} == {threshold}
    report = known.score(other, "calibrated")
    assert report["solved_with"]["calibration"]["threshold"] == threshold
    assert report["solved_with"]["calibration"]["precision"] == 1.0
    assert report["precision"] == 1.0


def test_where_nothing_is_right_nothing_is_accepted_and_replays_know(tmp_path: Path, llama: Path) -> None:
    made = place(tmp_path / "place", llama)
    attempts, _ = made.solve()
    artifact, reporter = calibrate(made, attempts)
    assert read_calibration(artifact.path)["threshold"] is None
    assert "nothing will be accepted" in reporter.lines[0]
    settings = {**made.settings, "verifier": {"accept": 0.0}}
    eager = place(tmp_path / "eager", llama, settings=settings)
    calibrated(eager, artifact)
    eager.solve()
    assert {a.verdict for a in eager.ledger.recorded_attempts(RUN, "solve")} == {"rejected"}
    assert replay(eager.workspace, "aaaa0001.1").equal


def test_noise_for_answers_moves_the_calibration_and_no_attempt(known: Place, tmp_path: Path) -> None:
    noisy = Place(tmp_path / "noisy", with_llama=False, answers=5)
    both = [made.solve(load=scripted(WRONG, RIGHT))[0] for made in (known, noisy)]
    first, second = ((artifact.path / "attempts.jsonl").read_bytes() for artifact in both)
    assert first == second
    found = [
        read_calibration(calibrate(made, artifact)[0].path) for made, artifact in zip((known, noisy), both, strict=True)
    ]
    assert found[0]["threshold"] is not None
    assert found[1]["threshold"] is None


def test_damaged_and_foreign_calibrations_are_clear_errors(known: Place, tmp_path: Path) -> None:
    for text, said in (
        ("{", "cannot read"),
        ('{"format_version": 9, "threshold": 1}', "has format 9"),
        ('{"format_version": 1, "threshold": 7}', "threshold 7 is not in"),
    ):
        (tmp_path / CALIBRATION).write_text(text)
        with pytest.raises(StageError, match=said):
            read_calibration(tmp_path)
    attempts, _ = known.solve(load=scripted(RIGHT))
    lines = (attempts.path / "attempts.jsonl").read_text().replace("cccc0003", "dddd0004")
    other = tmp_path / "other"
    other.mkdir()
    (other / "attempts.jsonl").write_text(lines)
    with pytest.raises(StageError, match="no answer for 1 tasks, first dddd0004"):
        calibrate(known, Artifact("gl1:x", "attempts", other, {}))


@given(
    st.lists(st.tuples(st.integers(0, 10).map(lambda n: n / 10), st.booleans()), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
)
def test_chosen_threshold_is_the_lowest_that_reaches_the_precision(
    scores: list[tuple[float, bool]], precision: float
) -> None:
    one = VerifierScores("any", tuple(scores))
    point, reached = one.chosen(precision)
    assert point is not None
    every = [one.at(score) for score, _ in scores]
    if reached:
        assert (point.precision or 0.0) >= precision
        assert all((other.precision or 0.0) < precision for other in every if other.threshold < point.threshold)
        assert point.recall is None or 0 < point.recall <= 1
    else:
        assert all((other.precision or 0.0) < precision for other in every)
