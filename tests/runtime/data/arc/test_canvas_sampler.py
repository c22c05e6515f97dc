"""Tasks on canvases of several sizes: which they lie on, how often each takes its turn, what is drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.arc.dataset import Dataset, load_dataset, save_dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import PERIOD, CanvasSampler, interleave
from gridloom.runtime.data.arc.tokens import encode
from gridloom.runtime.data.tasks import fitting_canvas, visible_side
from gridloom.specs.data import ArcData, ArcSelect, Augment

SPEC = ArcData(
    subsets=("training",),
    holdout=("training",),
    select=ArcSelect(max_side=12, limit=40),
    canvas="auto",
    canvases=(5, 8),
    augment=Augment(copies=3),
)
SOURCE = read_arc(SPEC, Path())
DATASET = Dataset(SOURCE.tasks, SOURCE.canvas, SOURCE.digest, SPEC.augment, SOURCE.version, None, SPEC.canvases)


def test_every_task_lies_on_the_smallest_canvas_with_room_for_a_border() -> None:
    assert DATASET.sides == (5, 8, 13)
    for task in DATASET.tasks:
        side = fitting_canvas(task, DATASET.sides)
        assert side > visible_side(task) or side == 13
        assert all(smaller <= visible_side(task) for smaller in DATASET.sides if smaller < side)


def test_batches_are_of_one_canvas_and_hold_the_pairs_of_its_tasks() -> None:
    sampler = CanvasSampler(DATASET, 0)
    seen = set()
    for step in range(PERIOD):
        batch = sampler.batch(step, 16)
        side = round(batch.inputs.shape[1] ** 0.5)
        seen.add(side)
        for row in range(0, 16, 5):
            task = DATASET.tasks[batch.task_index[row]]
            assert fitting_canvas(task, DATASET.sides) == side
            view = replace(sampler.views.of_task(int(batch.task_index[row]))[batch.view_index[row]])
            pair = task.train_pairs[batch.pair_index[row]]
            assert np.array_equal(batch.labels[row], encode(view.apply(pair.output), side))
    assert seen == {5, 8, 13}


def test_pairs_are_drawn_as_often_as_on_one_canvas() -> None:
    sampler = CanvasSampler(DATASET, 0)
    pairs = {
        side: sum(len(t.train_pairs) for t in DATASET.tasks if fitting_canvas(t, DATASET.sides) == side)
        for side in DATASET.sides
    }
    total = sum(pairs.values())
    for side, share in sampler.shares.items():
        assert abs(share - pairs[side] / total) <= 1 / PERIOD


def test_a_canvas_goes_through_its_tasks_without_gap_or_repetition() -> None:
    sampler = CanvasSampler(DATASET, 0)
    drawn: dict[int, list[tuple[int, int]]] = {}
    for step in range(3 * PERIOD):
        batch = sampler.batch(step, 4)
        drawn.setdefault(batch.inputs.shape[1], []).extend(
            zip(batch.task_index.tolist(), batch.pair_index.tolist(), strict=True)
        )
    for part in sampler.samplers:
        rows = drawn[part.canvas**2]
        epoch = part.epoch_rows
        whole = [sorted(rows[at : at + epoch]) for at in range(0, len(rows) - epoch + 1, epoch)]
        assert len(whole) > 1
        assert all(len(set(one)) == epoch and one == whole[0] for one in whole)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=6), st.integers(6, 200))
def test_turns_fill_the_period_and_leave_nobody_out(weights: list[int], period: int) -> None:
    order, quotas = interleave(weights, period)
    assert len(order) >= period
    assert [order.count(owner) for owner in range(len(weights))] == quotas
    assert min(quotas) >= 1


def test_canvases_come_back_from_disk(tmp_path: Path) -> None:
    save_dataset(tmp_path, DATASET)
    assert load_dataset(tmp_path).sides == DATASET.sides
