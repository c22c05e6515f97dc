"""Validation in training: rows held apart, averaged weights judged as `evaluate` judges, exact repetition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from puzzle_support import PUZZLE_MODEL, PUZZLE_STAGE, SUDOKUS, puzzle_artifact
from train_support import (
    MODEL,
    STAGE,
    StopAfter,
    dataset_artifact,
    known_dataset,
    stage_context,
    toy_dataset,
    train_node,
)

from gridloom.compiler.facts import short_key
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.checkpoints.bundle import load_bundle
from gridloom.runtime.data.arc.canonical import task_key
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles, symmetry_keys
from gridloom.runtime.data.sequences.artifact import save_sequences
from gridloom.runtime.data.tasks import Task, grid_bytes
from gridloom.runtime.models.recursive.trm import TRM
from gridloom.runtime.training.held_apart import puzzles_apart, tasks_apart
from gridloom.runtime.training.loop import ActTrainer
from gridloom.runtime.training.state import saved_steps
from gridloom.runtime.training.train import Train
from gridloom.runtime.training.validate import TaskValidator, better_of
from gridloom.specs.puzzles import ParityData, SudokuData
from gridloom.specs.stages import AdamAtan2
from gridloom.specs.validation import Validation
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


def logged(root: Path) -> dict[tuple[int, str], float]:
    rows = Ledger(Workspace(root / "home")).rows("select step, name, value from metrics")
    return {(row["step"], row["name"]): row["value"] for row in rows if row["name"] != "steps_per_s"}


def train(root: Path, validate: Validation, stop: Any = None, dataset: Dataset | None = None, **changes: Any) -> Any:
    context = stage_context(root, stop)
    stage = STAGE.model_copy(update={"validate_": validate, **changes})
    try:
        data = dataset_artifact(root, known_dataset() if dataset is None else dataset)
        Train().run(train_node(stage), {"data": data}, context)
    finally:
        context.ledger.close()
    return context


def pairs_of(task: Task) -> set[bytes]:
    return {grid_bytes(pair.input) + grid_bytes(pair.output) for pair in task.train_pairs}


def test_known_test_pairs_of_a_share_are_held_apart_and_drawn_by_no_training_row() -> None:
    whole = known_dataset()
    apart = tasks_apart(whole, Validation(share=0.4), seed=3)
    assert len(apart.tasks) == 2
    assert apart.tasks != tasks_apart(whole, Validation(share=0.4), seed=4).tasks
    for task in apart.tasks:
        original = whole.task(task.task_id)
        assert [grid_bytes(grid) for grid in task.tests] == [grid_bytes(pair.input) for pair in original.known]
        assert [grid_bytes(g) for g in apart.answers[task.task_id]] == [grid_bytes(p.output) for p in original.known]
        assert len(apart.dataset.task(task.task_id).train_pairs) == 3
    held = {grid_bytes(p.input) + grid_bytes(p.output) for t in apart.tasks for p in whole.task(t.task_id).known}
    drawn = Sampler(apart.dataset, 0).batch(0, 300)
    for task, pair in zip(drawn.task_index.tolist(), drawn.pair_index.tolist(), strict=True):
        chosen = apart.dataset.tasks[task].train_pairs[pair]
        assert grid_bytes(chosen.input) + grid_bytes(chosen.output) not in held


def test_a_split_gives_its_known_pairs_and_a_limit_takes_some_of_them() -> None:
    whole = known_dataset()
    assert {task.task_id for task in tasks_apart(whole, Validation(split="training"), 0).tasks} == {
        "t0",
        "t1",
        "t2",
        "t3",
    }
    assert len(tasks_apart(whole, Validation(split="training", limit=3), 0).tasks) == 3
    with pytest.raises(StageError, match="no task of subset 'nowhere' has a pair to hold apart"):
        tasks_apart(whole, Validation(split="nowhere"), 0)


def test_where_answers_are_held_out_the_last_demonstration_is_held_apart() -> None:
    whole = toy_dataset()
    apart = tasks_apart(whole, Validation(share=0.5), 0)
    (task,) = apart.tasks
    last = whole.task(task.task_id).demos[-1]
    assert grid_bytes(task.tests[0]) == grid_bytes(last.input)
    assert len(apart.dataset.task(task.task_id).train_pairs) == 2
    few = replace(whole, tasks=tuple(replace(task, demos=task.demos[:2]) for task in whole.tasks))
    with pytest.raises(StageError, match="a known test pair, or a third demonstration"):
        tasks_apart(few, Validation(share=0.5), 0)


def test_a_pair_held_apart_is_left_out_of_other_tasks_too_and_no_task_is_left_without_pairs() -> None:
    whole = known_dataset()
    shared = whole.tasks[0].known[0]
    tasks = (whole.tasks[0], replace(whole.tasks[1], demos=(*whole.tasks[1].demos, shared)), *whole.tasks[2:])
    apart = tasks_apart(replace(whole, tasks=tasks), Validation(split="training"), 0)
    assert pairs_of(tasks[1]) - pairs_of(apart.dataset.task("t1")) >= {
        grid_bytes(shared.input) + grid_bytes(shared.output)
    }
    only = Task("only", "other", (shared,), (), ())
    apart = tasks_apart(replace(whole, tasks=(*whole.tasks, only)), Validation(split="training"), 0)
    assert "t0" not in {task.task_id for task in apart.tasks}
    assert all(task.train_pairs for task in apart.dataset.tasks)


def test_puzzles_of_one_class_stay_on_one_side(tmp_path: Path) -> None:
    puzzles = load_puzzles(puzzle_artifact(tmp_path, SUDOKUS).path)
    assert puzzles.augment
    apart = puzzles_apart(puzzles, Validation(share=0.2), 0)
    left = apart.puzzles.splits["train"]
    assert len(apart.inputs) == 8
    assert len(left.inputs) == 32
    ours, theirs = (
        symmetry_keys("sudoku", *rows) for rows in ((apart.inputs, apart.labels), (left.inputs, left.labels))
    )
    assert not np.isin(ours, theirs).any()
    tested = puzzles_apart(puzzles, Validation(split="test", limit=5), 0)
    assert np.array_equal(tested.inputs, puzzles.splits["test"].inputs[:5])
    assert len(tested.puzzles.splits["train"].inputs) == 40


def test_curves_stand_in_the_ledger_and_the_averaged_weights_are_judged(tmp_path: Path) -> None:
    wanted = Validation(every=5, share=0.6, views=2, publish="last")
    context = train(tmp_path, wanted, steps=12, ema=0.9)
    found = logged(tmp_path)
    names = {"validation_pass1", "validation_pass2", "validation_shape_match", "validation_cell_accuracy"}
    assert {(step, name) for step, name in found if name in names} == {(s, n) for s in (5, 10, 12) for n in names}
    bundle = load_bundle(tmp_path / "out")
    assert bundle.meta["steps"] == 12
    apart = tasks_apart(known_dataset(), wanted, seed=3)
    validator = TaskValidator(apart, bundle.network, bundle.puzzle_ids, wanted)
    figures = validator.figures([validator.answer(bundle.network, n) for n in range(validator.num_batches)])
    assert {f"validation_{name}": value for name, value in figures.items()} == {n: found[12, n] for n in names}
    raw = load_bundle(tmp_path / "out", weights="raw").network
    assert not torch.equal(bundle.network.lm_head.weight, raw.lm_head.weight)
    assert any("are held apart for validation" in line for line in context.progress.lines)
    assert context.notes["best_metric"] == "validation_pass@2"
    assert bundle.meta["validation"]["share"] == 0.6


def test_validation_changes_no_weight_and_no_training_figure(tmp_path: Path) -> None:
    for name, every in (("often", 1), ("once", 100)):
        train(tmp_path / name, Validation(every=every, share=0.4, publish="last"))
    often, once = (logged(tmp_path / name) for name in ("often", "once"))
    assert {k: v for k, v in often.items() if not k[1].startswith("validation")} == {
        k: v for k, v in once.items() if not k[1].startswith("validation")
    }
    states = [load_bundle(tmp_path / name / "out", weights="raw").network.state_dict() for name in ("often", "once")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("readings", range(1, 14, 3))
def test_a_training_stopped_at_or_in_a_validation_repeats_bit_for_bit(tmp_path: Path, readings: int) -> None:
    wanted = Validation(every=3, share=0.6, views=2, batch_size=2)
    changes = {"steps": 7, "batch_size": 4, "optimizer": AdamAtan2(lr=3e-3)}
    train(tmp_path / "whole", wanted, **changes)
    with pytest.raises(StageInterrupted):
        train(tmp_path / "parts", wanted, StopAfter(readings), **changes)
    train(tmp_path / "parts", wanted, **changes)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    one, two = (load_bundle(tmp_path / name / "out") for name in ("whole", "parts"))
    assert one.meta["validation"] == two.meta["validation"]
    assert one.meta["steps"] == two.meta["steps"] == one.meta["validation"]["best_step"]
    states = one.network.state_dict(), two.network.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_state_of_the_best_validation_is_kept_and_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = iter([0.1, 0.5, 0.3, 0.5, 0.2, 0.4])
    monkeypatch.setattr(
        TaskValidator,
        "figures",
        lambda self, results: {"pass1": 0.0, "pass2": next(curve), "shape_match": 1.0, "cell_accuracy": 0.5},
    )
    train(tmp_path, Validation(every=2, share=0.4), steps=12)
    assert load_bundle(tmp_path / "out").meta["steps"] == 4
    assert saved_steps(tmp_path / "work") == [4, 10, 12]


def test_of_equal_figures_the_one_with_more_right_cells_is_better_then_the_earlier() -> None:
    best = better_of(None, 2, 0.0, {"cell_accuracy": 0.1})
    best = better_of(best, 4, 0.0, {"cell_accuracy": 0.3})
    assert best == [4, 0.0, 0.3]
    assert better_of(best, 6, 0.0, {"cell_accuracy": 0.3}) == best
    assert better_of(best, 8, 0.5, {"cell_accuracy": 0.2}) == [8, 0.5, 0.2]


def test_answers_that_chose_the_weights_count_as_trained_on_in_the_bundle(tmp_path: Path) -> None:
    train(tmp_path, Validation(every=6, share=0.9), steps=6)
    learnt = load_bundle(tmp_path / "out").meta["data"]["answers_of"]
    assert {short_key(task_key(task, True)) for task in known_dataset().tasks} <= set(learnt)


def test_weights_that_diverged_end_the_training_with_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = ActTrainer.step

    def broken(self: ActTrainer, batch: Any, spent: float = 0.0) -> None:
        update(self, batch, spent)
        with torch.no_grad():
            for average in self.ema.tensors().values():
                average.fill_(float("nan"))

    monkeypatch.setattr(ActTrainer, "step", broken)
    with pytest.raises(StageError, match="stopped at step 2 of 12: loss became NaN"):
        train(tmp_path, Validation(every=2, share=0.4))


def test_held_apart_sudokus_and_the_test_stream_of_a_sequence_are_counted_as_exact_rows(tmp_path: Path) -> None:
    context = stage_context(tmp_path / "sudoku")
    stage = PUZZLE_STAGE.model_copy(update={"validate_": Validation(every=6, share=0.2), "steps": 6})
    data = puzzle_artifact(tmp_path / "sudoku", SUDOKUS)
    Train().run(train_node(stage, PUZZLE_MODEL), {"data": data}, context)
    context.ledger.close()
    found = {name for _, name in logged(tmp_path / "sudoku") if name.startswith("validation")}
    assert found == {f"validation_{n}" for n in ("exact", "cell_accuracy", "open_cell_accuracy", "halting_accuracy")}
    assert "validated_on" not in load_bundle(tmp_path / "sudoku" / "out").meta["data"]
    folder = tmp_path / "parity" / "data"
    folder.mkdir(parents=True)
    save_sequences(folder, ParityData(bits=5).model_dump(mode="json"))
    context = stage_context(tmp_path / "parity")
    stage = STAGE.model_copy(update={"validate_": Validation(every=6, split="test", limit=40), "steps": 6})
    Train().run(train_node(stage, MODEL), {"data": Artifact("gl1:data", "sequences", folder, {})}, context)
    context.ledger.close()
    assert (
        logged(tmp_path / "parity")[6, "validation_exact"] == logged(tmp_path / "parity")[6, "validation_cell_accuracy"]
    )


def test_weights_chosen_by_test_puzzles_name_their_set(tmp_path: Path) -> None:
    context = stage_context(tmp_path)
    stage = PUZZLE_STAGE.model_copy(update={"validate_": Validation(every=6, split="test"), "steps": 6})
    Train().run(train_node(stage, PUZZLE_MODEL), {"data": puzzle_artifact(tmp_path, SUDOKUS)}, context)
    context.ledger.close()
    digest = load_puzzles(tmp_path / "puzzles").digest
    assert load_bundle(tmp_path / "out").meta["data"]["validated_on"] == [digest]


def test_a_set_of_one_class_gives_no_share(tmp_path: Path) -> None:
    puzzles = load_puzzles(puzzle_artifact(tmp_path, SudokuData(size=4, train=6, test=0)).path)
    train_split = puzzles.splits["train"]
    same = replace(train_split, inputs=train_split.inputs[[0] * 6], labels=train_split.labels[[0] * 6])
    with pytest.raises(StageError, match="training puzzles can be held apart"):
        puzzles_apart(replace(puzzles, splits={"train": same}), Validation(share=0.2), 0)


def test_canvases_and_puzzle_ids_of_a_validation_are_those_of_the_training() -> None:
    apart = tasks_apart(known_dataset(), Validation(share=0.4, views=3), 0)
    sampler = Sampler(apart.dataset, 0)
    ids = PuzzleIds(sampler.views.names)
    validator = TaskValidator(apart, TRM(MODEL, 4, len(ids)), ids, Validation(share=0.4, views=3))
    for target in validator.targets:
        names = [ids.names[voter.puzzle_id] for voter in target.voters]
        assert len(names) == 3
        assert all(name.startswith(f"{target.task.task_id}|||") for name in names)
