"""The stream of training rows: reproducible, independent of batching, and nothing that training may not see."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridloom.errors import DataError
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.arc.tokens import encode
from gridloom.runtime.data.arc.views import View
from gridloom.runtime.data.batch import TrainBatch
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.specs.data import ArcData, ArcSelect, Augment, Curriculum

FIELDS = ("inputs", "labels", "puzzle_ids", "task_index", "view_index", "pair_index", "offsets")


def small(copies: int = 5, translate: bool = False, check_demos: int = 1) -> Dataset:
    spec = ArcData(select=ArcSelect(max_side=6, limit=12), canvas="auto", check_demos=check_demos)
    source = read_arc(spec, Path())
    augment = Augment(copies=copies, translate=translate)
    return Dataset(source.tasks, source.canvas + 3 * translate, source.digest, augment, source.version)


DATASET = small()
SAMPLER = Sampler(DATASET, seed=3)


def same(a: TrainBatch, b: TrainBatch) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def joined(batches: list[TrainBatch]) -> TrainBatch:
    return TrainBatch(**{name: np.concatenate([getattr(b, name) for b in batches]) for name in FIELDS})


@given(st.integers(0, 500), st.integers(1, 40), st.integers(1, 40))
def test_stream_does_not_depend_on_how_it_is_cut(first: int, left: int, right: int) -> None:
    whole = SAMPLER.rows(np.arange(first, first + left + right))
    parts = [SAMPLER.rows(np.arange(first, first + left)), SAMPLER.rows(np.arange(first + left, first + left + right))]
    assert same(whole, joined(parts))
    backwards = Sampler(DATASET, seed=3).rows(np.arange(first, first + left + right)[::-1])
    assert np.array_equal(whole.inputs, backwards.inputs[::-1])


def test_batches_are_the_stream_cut_into_steps() -> None:
    assert same(joined([SAMPLER.batch(step, 7) for step in range(4)]), SAMPLER.batch(0, 28))
    assert not np.array_equal(SAMPLER.batch(0, 16).labels, Sampler(DATASET, seed=4).batch(0, 16).labels)


def test_two_processes_draw_the_same_bytes() -> None:
    code = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1]); from test_sampler import SAMPLER;"
        "b = SAMPLER.batch(5, 32); print(hashlib.sha256(b.inputs.tobytes() + b.labels.tobytes()).hexdigest())"
    )
    here = str(Path(__file__).parent)
    told = {
        subprocess.run(
            [sys.executable, "-c", code, here], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_each_row_is_its_pair_under_its_view_at_its_offset() -> None:
    dataset = small(translate=True)
    sampler = Sampler(dataset, seed=1)
    batch = sampler.batch(0, 200)
    assert batch.inputs.dtype == batch.labels.dtype == np.uint8
    assert batch.puzzle_ids.dtype == np.int32
    for row in range(200):
        task = dataset.tasks[batch.task_index[row]]
        view = sampler.views.of_task(int(batch.task_index[row]))[batch.view_index[row]]
        pair = task.train_pairs[batch.pair_index[row]]
        down, right = batch.offsets[row].tolist()
        assert np.array_equal(batch.inputs[row], encode(view.apply(pair.input), dataset.canvas, (down, right)))
        assert np.array_equal(batch.labels[row], encode(view.apply(pair.output), dataset.canvas, (down, right)))
        assert sampler.views.names[batch.puzzle_ids[row]] == view.name(task.task_id)
    assert batch.offsets.max() > 0
    assert (batch.offsets.max(axis=1) == 0).any()


def test_an_epoch_shows_every_training_pair_once_and_no_check_pair() -> None:
    batch = SAMPLER.rows(np.arange(SAMPLER.epoch_rows))
    seen = sorted(zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True))
    assert seen == [(t, p) for t, task in enumerate(DATASET.tasks) for p in range(len(task.train_pairs))]
    assert any(task.check for task in DATASET.tasks)
    for t, task in enumerate(DATASET.tasks):
        shown = {batch.inputs[row].tobytes() for row in np.flatnonzero(batch.task_index == t)}
        views = SAMPLER.views.of_task(t)
        kept_back = {encode(v.apply(pair.input), DATASET.canvas).tobytes() for pair in task.check_pairs for v in views}
        allowed = {encode(v.apply(pair.input), DATASET.canvas).tobytes() for pair in task.train_pairs for v in views}
        assert not (shown & (kept_back - allowed))


def test_rows_of_a_task_share_one_view_a_visit_and_visits_differ() -> None:
    visits = []
    for epoch in range(20):
        batch = SAMPLER.rows(np.arange(epoch * SAMPLER.epoch_rows, (epoch + 1) * SAMPLER.epoch_rows))
        views = [set(batch.view_index[batch.task_index == t].tolist()) for t in range(len(DATASET.tasks))]
        assert all(len(found) == 1 for found in views)
        visits.append([found.pop() for found in views])
    assert all(len(set(column)) > 2 for column in zip(*visits, strict=True))


def test_tall_and_wide_pairs_stay_on_the_canvas_when_turned_and_moved() -> None:
    wide = Pair(np.ones((1, 9), dtype=np.uint8), np.full((2, 3), 2, dtype=np.uint8))
    task = Task("t", "training", (wide, wide, wide), ())
    dataset = Dataset((task,), 10, "", Augment(copies=20, translate=True), "")
    sampler = Sampler(dataset, seed=0)
    batch = sampler.batch(0, 600)
    assert ((batch.inputs >= 2).sum(axis=1) == 9).all()
    assert ((batch.labels >= 2).sum(axis=1) == 6).all()
    turned = np.array([sampler.views.view(int(i) - 1).dihedral in (1, 3, 6, 7) for i in batch.puzzle_ids])
    assert batch.offsets[turned, 1].max() == 8
    assert batch.offsets[turned, 0].max() == 1
    assert batch.offsets[~turned, 0].max() == 8


def test_curriculum_shows_small_tasks_first_and_all_in_the_end() -> None:
    plan = Curriculum(start=0.25, epochs=4)
    dataset = dataclasses.replace(DATASET, curriculum=plan)
    sampler = Sampler(dataset, seed=3)
    sides = [max(max(p.input.size, p.output.size) for p in task.train_pairs) for task in dataset.tasks]
    batch = sampler.rows(np.arange(12 * sampler.epoch_rows))
    tasks = batch.task_index.tolist()
    first = [t for t, _ in itertools.groupby(tasks)][:3]
    assert sorted(sides[t] for t in first) == sorted(sides)[:3]
    starts = [i for i, t in enumerate(tasks) if t not in tasks[:i]]
    assert len(starts) == len(dataset.tasks)
    counts = [len(task.train_pairs) for task in dataset.tasks]
    ranked = np.argsort(sides, kind="stable")
    warm = sum(sum(counts[t] for t in ranked[:active]) for active in (3, 5, 8, 10))
    full = np.bincount(batch.task_index[warm : warm + sampler.epoch_rows], minlength=len(counts))
    assert full.tolist() == counts
    parts = [sampler.rows(np.arange(first, first + 11)) for first in range(0, 110, 11)]
    assert np.array_equal(np.concatenate([part.inputs for part in parts]), batch.inputs[:110])


def test_a_task_without_training_pairs_is_named() -> None:
    grid = np.zeros((1, 1), dtype=np.uint8)
    bare = Task("bare", "x", (Pair(grid, grid),), (), check=(0,))
    with pytest.raises(DataError, match="'bare' has no pair"):
        Sampler(Dataset((bare,), 3, "", Augment(), ""), 0)


def test_views_can_be_given() -> None:
    table = SAMPLER.views
    again = Sampler(DATASET, seed=3, views=table)
    assert again.views is table
    assert isinstance(table.view(0), View)
