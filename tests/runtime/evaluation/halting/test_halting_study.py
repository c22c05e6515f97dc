"""The stage halting_study on puzzles and sequences: report, ledger, figures, resume, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from puzzle_support import SUDOKUS, puzzle_artifact, train_on_puzzles
from train_support import MODEL, STAGE, StopAfter, dataset_artifact, stage_context, train_node

from gridloom.compiler.graph import StageNode
from gridloom.errors import GridloomError, ModelError, StageError, StageInterrupted
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.evaluation.halting import study as module
from gridloom.runtime.evaluation.halting.rows import puzzle_difficulty
from gridloom.runtime.evaluation.halting.study import HaltingStudy, headline
from gridloom.runtime.evaluation.puzzles import Evaluate
from gridloom.runtime.training.train import Train
from gridloom.specs.halting_study import HaltingStudyStage
from gridloom.specs.puzzles import ParityData
from gridloom.specs.stages import AdamAtan2, EvaluateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train_on_puzzles(root, SUDOKUS, steps=60, batch_size=32, optimizer=AdamAtan2(lr=3e-3))
    return root


def study(root: Path, trained: Path, data: Artifact | None = None, stop: Any = None, **fields: Any) -> Any:
    context = replace(stage_context(root, stop), notes={})
    fields = {"steps": (1, 2, 5), "plots": False, **fields}
    spec = HaltingStudyStage.model_validate({"with": "pretrain", "data": "puzzles", **fields})
    node = StageNode(
        name="study",
        kind="halting_study",
        version=1,
        produces="evaluation",
        spec=spec.model_dump(mode="json", by_alias=True),
    )
    inputs = {
        "with": Artifact("gl1:checkpoint", "checkpoint", trained / "out", {}),
        "data": puzzle_artifact(trained, SUDOKUS) if data is None else data,
    }
    try:
        HaltingStudy().run(node, inputs, context)
    finally:
        context.ledger.close()
    return json.loads((root / "out" / "report.json").read_text())


def test_figures_agree_with_evaluations_of_as_many_steps(tmp_path: Path, trained: Path) -> None:
    report = study(tmp_path / "study", trained, batch_size=7)
    assert report["num_rows"] == 30
    fixed = [row for row in report["rows"] if row["part"] == "steps" and row["series"] == "fixed"]
    assert [row["x"] for row in fixed] == [1, 2, 5]
    own = [row for row in report["rows"] if row["part"] == "steps" and row["series"] == "own"]
    for limit, one, halted in ((2, fixed[1], own[1]), (5, fixed[2], own[2])):
        for halt, row in (("none", one), ("score", halted)):
            context = stage_context(tmp_path / f"{halt}{limit}")
            fields = {"act_steps": limit, "halt": halt, "batch_size": 7}
            spec = EvaluateStage.model_validate({"with": "pretrain", "data": "puzzles", **fields})
            values = spec.model_dump(mode="json", by_alias=True)
            node = StageNode(name="judge", kind="evaluate", version=1, produces="evaluation", spec=values)
            checkpoint = Artifact("gl1:checkpoint", "checkpoint", trained / "out", {})
            Evaluate().run(node, {"with": checkpoint, "data": puzzle_artifact(trained, SUDOKUS)}, context)
            context.ledger.close()
            judged = json.loads((context.out / "report.json").read_text())
            assert row["exact"] == judged["exact"]
            assert row["cell_accuracy"] == pytest.approx(judged["cell_accuracy"])
            assert row["mean_steps"] == judged["mean_act_steps"]


def test_the_ledger_has_every_row_of_the_report(tmp_path: Path, trained: Path) -> None:
    report = study(tmp_path, trained)
    rows = Ledger(Workspace(tmp_path / "home")).rows("select * from halting_study order by part, series, place")
    assert len(rows) == len(report["rows"])
    assert {row["checkpoint_key"] for row in rows} == {"gl1:checkpoint"}
    written = {(row["part"], row["series"], row["x"]): row for row in report["rows"]}
    for row in rows:
        assert row["value"] == written[row["part"], row["series"], row["x"]].get("value")
    parts = {row["part"] for row in rows}
    assert {"steps", "threshold", "gain", "difficulty", "reliability", "calibration", "residual"} <= parts
    assert report["headline"]["exact"] == written["steps", "fixed", 5]["exact"]


def test_steps_of_the_spec_are_those_of_the_network(tmp_path: Path, trained: Path) -> None:
    assert study(tmp_path / "most", trained, steps="max")["steps"] == [1, 2, 3]
    assert study(tmp_path / "two", trained, steps=(4, 2, 4), limit=5)["steps"] == [2, 4]


def test_a_stopped_study_goes_on_with_the_next_batch(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(tmp_path / "whole", trained, batch_size=8)
    with pytest.raises(StageInterrupted, match=r"study stopped by SIGTERM at row 16 of 30, saved"):
        study(tmp_path / "parts", trained, stop=StopAfter(2), batch_size=8)
    (tmp_path / "parts" / "work" / "batch-00000008.npz").write_bytes(b"damaged")
    measured: list[int] = []
    real = module.measure
    monkeypatch.setattr(module, "measure", lambda *given: measured.append(len(given[1].inputs)) or real(*given))
    assert study(tmp_path / "parts", trained, batch_size=8) == whole
    assert measured == [8, 8, 6], "the damaged batch and the two that were left"


def test_figures_are_drawn_as_png_and_svg_and_the_same_each_time(tmp_path: Path, trained: Path) -> None:
    pytest.importorskip("matplotlib")
    study(tmp_path / "a", trained, plots=True, limit=10)
    study(tmp_path / "b", trained, plots=True, limit=10)
    names = {"accuracy", "cost", "difficulty", "calibration", "residual"}
    for name in (f"{one}.{kind}" for one in names for kind in ("png", "svg")):
        a, b = ((tmp_path / root / "out" / name).read_bytes() for root in "ab")
        assert a == b, name
        assert a.startswith(b"\x89PNG" if name.endswith("png") else b"<?xml")


def test_without_matplotlib_nothing_is_measured(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(module, "load_bundle", lambda *given, **more: pytest.fail("work was begun"))
    with pytest.raises(GridloomError, match="study, which draws figures, needs the package matplotlib") as error:
        study(tmp_path, trained, plots=True)
    assert error.value.remedy == "pip install 'gridloom[plots]', or set  plots: false  in the stage"


def test_arc_tasks_and_other_puzzles_are_refused(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(StageError, match="not ARC tasks"):
        study(tmp_path, trained, data=dataset_artifact(tmp_path))
    folder = tmp_path / "bits"
    folder.mkdir()
    save_sequences(folder, ParityData(bits=4).model_dump(mode="json"))
    with pytest.raises(ModelError, match="trained on sudoku data, wanted parity"):
        study(tmp_path, trained, data=Artifact("gl1:bits", "sequences", folder, {}))


def test_sequences_are_studied_by_their_length(tmp_path: Path) -> None:
    folder = tmp_path / "bits"
    folder.mkdir()
    save_sequences(folder, ParityData(bits=3).model_dump(mode="json"))
    data = Artifact("gl1:bits", "sequences", folder, {})
    context = stage_context(tmp_path / "trained")
    Train().run(train_node(STAGE.model_copy(update={"steps": 3}), MODEL), {"data": data}, context)
    context.ledger.close()
    report = study(tmp_path / "study", tmp_path / "trained", data=data, limit=40, steps="max")
    assert report["num_rows"] == 40
    lengths = [row for row in report["rows"] if row["part"] == "difficulty"]
    assert [(row["series"], row["x"]) for row in lengths] == [("length", 1.0), ("length", 2.0), ("length", 3.0)]
    assert sum(row["n"] for row in lengths) == 40


def test_difficulty_of_puzzles() -> None:
    # S, two open cells of the path, G: three steps
    line = np.array([[3, 2, 2, 4]], dtype=np.uint8)
    path = np.array([[3, 5, 5, 4]], dtype=np.uint8)
    assert puzzle_difficulty("maze", 2, line, path)["path_length"].tolist() == [3]
    board = np.array([[2, 3, 4, 5, 4, 5, 2, 3, 3, 2, 5, 4, 5, 4, 3, 1]], dtype=np.uint8)
    found = puzzle_difficulty("sudoku", 4, board, board)
    assert (found["blanks"].tolist(), found["guesses"].tolist()) == ([1], [0])
    empty = puzzle_difficulty("sudoku", 4, np.ones((1, 16), dtype=np.uint8), board)
    assert empty["guesses"][0] > 0


def test_the_headline_of_no_rows_is_empty() -> None:
    assert headline([], 3) == {}
