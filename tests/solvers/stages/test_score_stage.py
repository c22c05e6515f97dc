"""The score stage on hand-made picks: what counts, over which denominators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from progress_support import Reporter
from solve_support import RUN, Place, mirror_answers

from gridloom.errors import StageError
from gridloom.runtime.evaluation.compare import compare
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.interop.result_files import check_submission, write_submission
from gridloom.solvers.stages.attempts_artifact import ATTEMPTS, PICKS, write_picks
from gridloom.stores.artifacts import Artifact
from gridloom.stores.records import ScoreRecord

RIGHT = {task_id: [grid.tolist() for grid in grids] for task_id, grids in mirror_answers().items()}
WRONG = [[9, 9, 9], [9, 9, 9]]


def pick(task_id: str, test_index: int, rank: int, grid: Any, accepted: bool = False) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "test_index": test_index,
        "rank": rank,
        "grid": grid,
        "weight": 1.0 - rank,
        "attempt": 1,
        "accepted": accepted,
        "num_attempts": 2,
    }


def attempts(made: Place, picks: list[dict[str, Any]]) -> Artifact:
    folder = made.root / "attempts"
    folder.mkdir(exist_ok=True)
    from solve_support import dataset

    write_picks(folder / PICKS, dataset().tasks, picks)
    (folder / ATTEMPTS).write_text("")
    return Artifact("gl1:solve", "attempts", folder, {"producer": {"stage": "solve", "run_id": RUN}})


@pytest.fixture
def made(tmp_path: Path) -> Place:
    return Place(tmp_path / "place", with_llama=False)


def test_shares_are_means_over_tasks_of_means_over_test_inputs(made: Place) -> None:
    report = made.score(
        attempts(
            made,
            [
                pick("aaaa0001", 0, 0, RIGHT["aaaa0001"][0], accepted=True),
                pick("bbbb0002", 0, 0, WRONG),
                pick("bbbb0002", 0, 1, RIGHT["bbbb0002"][0]),
                pick("bbbb0002", 1, 0, WRONG),
                pick("cccc0003", 0, 0, [[1]], accepted=True),
            ],
        )
    )
    assert (report["num_tasks"], report["num_test_inputs"]) == (3, 4)
    assert report["pass1"] == pytest.approx(1 / 3)
    assert report["pass2"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert report["solved"] == ["aaaa0001"]
    assert report["shape_match"] == pytest.approx(2 / 3)
    assert (report["num_accepted"], report["num_accepted_right"], report["precision"]) == (2, 1, 0.5)
    assert report["pass2_interval"][0] < report["pass2"] < report["pass2_interval"][1]


def test_test_input_without_any_grid_counts_as_wrong(made: Place) -> None:
    report = made.score(attempts(made, [pick("bbbb0002", 0, 0, RIGHT["bbbb0002"][0])]))
    assert report["pass2"] == pytest.approx(0.5 / 3)
    rows = made.ledger.read(ScoreRecord, run_id=RUN)
    assert len(rows) == 4, "one a test input at least"
    solved = {row["task_id"]: row["pass2"] for row in made.ledger.rows("SELECT task_id, pass2 FROM v_tasks")}
    assert solved in ({}, {"aaaa0001": 0.0, "bbbb0002": 0.5, "cccc0003": 0.0})


def test_task_without_answer_is_refused(made: Place, tmp_path: Path) -> None:
    artifact = attempts(made, [])
    text = (artifact.path / PICKS).read_text().replace("cccc0003", "dddd0004")
    (artifact.path / PICKS).write_text(text)
    with pytest.raises(StageError, match="no answer for 1 tasks, first dddd0004"):
        made.score(artifact)


def test_score_of_a_real_solve_joins_in_the_ledger(solved: tuple[Place, Artifact, Reporter]) -> None:
    made, artifact, _ = solved
    report = made.score(artifact)
    rows = made.ledger.rows("SELECT task_id, pass2, cell_accuracy FROM v_tasks WHERE run_id = ?", [RUN])
    assert len(rows) == 3
    assert report["pass2"] == pytest.approx(sum(row["pass2"] for row in rows) / 3)


def test_compare_gives_no_cells_for_another_shape() -> None:
    answer = np.array([[1, 2], [3, 4]], np.uint8)
    assert compare([[1, 2], [3, 4]], answer) == {"exact_match": True, "shape_match": True, "cell_accuracy": 1.0}
    assert compare([[1, 2], [3, 5]], answer) == {"exact_match": False, "shape_match": True, "cell_accuracy": 0.75}
    for other in ([[1, 2]], [], [[1]]):
        assert compare(other, answer) == {"exact_match": False, "shape_match": False, "cell_accuracy": 0.0}


@pytest.mark.parametrize(
    ("share", "number", "low", "high"),
    [(0.15, 40, 0.0706, 0.2907), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0), (0.5, 0, 0.0, 1.0)],
)
def test_wilson_interval_equals_the_tabulated_values(share: float, number: int, low: float, high: float) -> None:
    assert wilson(share, number) == pytest.approx((low, high), abs=5e-4)


def test_submission_round_trip_and_gaps(made: Place) -> None:
    from solve_support import dataset

    path = made.root / "submission.json"
    write_submission(path, dataset().tasks, [pick("aaaa0001", 0, 0, WRONG), pick("aaaa0001", 0, 1, [[1]])])
    import json

    content = json.loads(path.read_text())
    assert content["aaaa0001"] == [{"attempt_1": WRONG, "attempt_2": [[1]]}]
    assert content["bbbb0002"] == [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2
    path.write_text(path.read_text().replace("cccc0003", "x"))
    with pytest.raises(StageError, match="cccc0003: missing"):
        check_submission(path, dataset().tasks)
