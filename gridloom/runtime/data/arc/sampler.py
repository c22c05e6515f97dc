"""Sampler of training rows, as in the reference: tasks in random order, one view of each, all of its pairs.

A curriculum restricts its first epochs to the smaller tasks.

Row n of the infinite stream depends only on (seed, n), so the rows are independent of the batch size, the number of
workers, and the step at which a run was resumed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data import kernels
from gridloom.runtime.data.arc import kernels as arc_kernels
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.packed import PackedPairs
from gridloom.runtime.data.arc.views import ViewTable, view_table
from gridloom.runtime.data.batch import TrainBatch
from gridloom.runtime.data.tasks import fitting_canvas


class Sampler:
    """Infinite, random-access stream of training rows of a dataset."""

    def __init__(
        self,
        dataset: Dataset,
        seed: int,
        views: ViewTable | None = None,
        *,
        members: NDArray[np.int64] | None = None,
        canvas: int | None = None,
    ) -> None:
        """Draw the views (unless given) and flatten the pairs. Raises DataError for a task without training pairs.

        Args:
            members: indices of the tasks to draw from, ascending; all when absent.
            canvas: side of the canvas in cells; the dataset's when absent.
        """
        self.dataset = dataset
        self.seed = seed
        self.canvas = dataset.canvas if canvas is None else canvas
        self._members = np.arange(len(dataset.tasks), dtype=np.int64) if members is None else members
        augment = dataset.augment
        self.views = views if views is not None else view_table(dataset.tasks, seed, augment.copies, augment)
        self._pairs = PackedPairs.of(dataset.tasks)
        self._counts = np.diff(self._pairs.pair_start)
        if not self._counts.all():
            task = dataset.tasks[int(np.argmin(self._counts))].task_id
            raise DataError(f"task {task!r} has no pair to train on", "lower check_demos or leave the task out")
        grids = self._pairs.grids
        sides = np.stack([grids.rows, grids.columns], axis=1).reshape(-1, 2, 2).max(axis=1)
        self._room = (self.canvas - sides).astype(np.int64)
        self._key = np.uint64(seed % 2**64)
        self._epoch = (-1, np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        self._ranked, self._warm_ends = self._curriculum(grids.rows * grids.columns)

    @property
    def epoch_rows(self) -> int:
        """Rows of one epoch: one view of each task, with all of its pairs."""
        return int(self._counts[self._members].sum())

    @property
    def num_puzzles(self) -> int:
        """Number of puzzle ids, the blank id 0 included."""
        return self.views.num_puzzles

    def epoch_at(self, number: int) -> tuple[int, int]:
        """Return the epoch of a row number, and the number of tasks in that epoch."""
        epoch = int(self._locate(np.array([number], dtype=np.int64))[0][0])
        return epoch, self._active(epoch)

    def batch(self, step: int, batch_size: int) -> TrainBatch:
        """Return rows step * batch_size ... of the stream; steps count from 0."""
        return self.rows(np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64))

    def rows(self, numbers: NDArray[np.int64]) -> TrainBatch:
        """Return the rows of these numbers, in this order."""
        picked = np.zeros((len(numbers), 5), dtype=np.int64)
        epochs, within = self._locate(numbers)
        for epoch in np.unique(epochs).tolist():
            order, ends = self._order(epoch)
            here = np.flatnonzero(epochs == epoch)
            part = np.zeros((len(here), 5), dtype=np.int64)
            arc_kernels.pick_rows(
                within[here],
                epoch,
                self._key,
                order,
                ends,
                self._pairs.pair_start,
                self.views.start,
                self.views.dihedral,
                self._room,
                self.dataset.augment.translate,
                part,
            )
            picked[here] = part
        return self._render(picked)

    def _curriculum(self, areas: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tasks, smallest first, and the end of each curriculum epoch as a row number."""
        plan = self.dataset.curriculum
        if plan is None:
            return self._members, np.zeros(0, dtype=np.int64)
        largest = np.maximum.reduceat(areas, 2 * self._pairs.pair_start[:-1])
        ranked = self._members[np.argsort(largest[self._members], kind="stable")]
        rows = np.cumsum(self._counts[ranked])
        return ranked, np.cumsum([rows[self._active(epoch) - 1] for epoch in range(plan.epochs)])

    def _active(self, epoch: int) -> int:
        """Return the number of ranked tasks in an epoch."""
        plan = self.dataset.curriculum
        share = 1.0 if plan is None else min(1.0, plan.start + (1 - plan.start) * epoch / plan.epochs)
        return max(1, round(share * len(self._members)))

    def _locate(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each row number its epoch and its row within the epoch."""
        warm = len(self._warm_ends)
        begin = np.concatenate([[0], self._warm_ends]).astype(np.int64)
        epochs = np.searchsorted(self._warm_ends, numbers, side="right")
        within = numbers - begin[epochs]
        full, rest = np.divmod(within, self.epoch_rows)
        late = epochs == warm
        return np.where(late, epochs + full, epochs), np.where(late, rest, within)

    def _order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tasks in the order of an epoch, and the running count of their pairs."""
        if self._epoch[0] != epoch:
            order = self._ranked[kernels.epoch_order(self._key, epoch, self._active(epoch))]
            self._epoch = (epoch, order, np.cumsum(self._counts[order]))
        return self._epoch[1:]

    def _render(self, picked: NDArray[np.int64]) -> TrainBatch:
        task, view, pair, offsets = picked[:, 0], picked[:, 1], picked[:, 2], picked[:, 3:]
        row = self.views.start[task] + view
        first_grid = 2 * (self._pairs.pair_start[task] + pair)
        grids, canvas = self._pairs.grids, self.canvas
        sides = []
        for grid in (first_grid, first_grid + 1):
            out = np.zeros((len(picked), canvas * canvas), dtype=np.uint8)
            arc_kernels.render(
                grids.cells,
                grids.start,
                grids.rows,
                grids.columns,
                grid,
                self.views.dihedral[row],
                self.views.colours[row],
                offsets,
                canvas,
                out,
            )
            sides.append(out)
        return TrainBatch(
            inputs=sides[0],
            labels=sides[1],
            puzzle_ids=(row + 1).astype(np.int32),
            task_index=task.astype(np.int32),
            view_index=view.astype(np.int32),
            pair_index=pair.astype(np.int32),
            offsets=offsets.astype(np.int32),
        )


PERIOD = 100
"""Period, in batches, of the sequence of canvases."""


def interleave(weights: Sequence[int], period: int) -> tuple[list[int], list[int]]:
    """Return a sequence of `period` indices into `weights`, and how often each occurs: in proportion to its weight, at
    least once.

    The k-th of n occurrences of an index is placed near (k + 1/2) / n of the period.
    """
    total = sum(weights)
    exact = [weight * period / total for weight in weights]
    quotas = [max(1, int(share)) for share in exact]
    while sum(quotas) < period:
        quotas[max(range(len(quotas)), key=lambda i: exact[i] - quotas[i])] += 1
    places = sorted(((k + 0.5) / quota, owner) for owner, quota in enumerate(quotas) for k in range(quota))
    return [owner for _, owner in places], quotas


class CanvasSampler:
    """Infinite, random-access stream of batches, each of tasks of one canvas."""

    def __init__(self, dataset: Dataset, seed: int, views: ViewTable | None = None) -> None:
        """Draw the views (unless given). Raises DataError for a task without training pairs."""
        augment = dataset.augment
        self.views = view_table(dataset.tasks, seed, augment.copies, augment) if views is None else views
        chosen = np.array([fitting_canvas(task, dataset.sides) for task in dataset.tasks])
        self.samplers = [
            Sampler(dataset, seed, self.views, members=np.flatnonzero(chosen == side), canvas=side)
            for side in dataset.sides
            if (chosen == side).any()
        ]
        self._turns, self._quotas = interleave([sampler.epoch_rows for sampler in self.samplers], PERIOD)
        self._before = [self._turns[:slot].count(turn) for slot, turn in enumerate(self._turns)]

    @property
    def shares(self) -> dict[int, float]:
        """Share of the batches on each canvas, by side in cells."""
        total = len(self._turns)
        return {s.canvas: quota / total for s, quota in zip(self.samplers, self._quotas, strict=True)}

    def batch(self, step: int, batch_size: int) -> TrainBatch:
        """Return the rows of a step; steps count from 0."""
        period, slot = divmod(step, len(self._turns))
        turn = self._turns[slot]
        return self.samplers[turn].batch(period * self._quotas[turn] + self._before[slot], batch_size)
