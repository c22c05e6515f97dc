"""Training rows of tasks that lie on canvases of several sizes: a batch is of one canvas.

Batch n depends on (seed, n) alone. Canvases take turns in a fixed pattern, each as often as its tasks have pairs, so
that a pair is drawn as often as on one canvas for all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gridloom.runtime.data.dataset import Dataset
from gridloom.runtime.data.sampler import Sampler, TrainBatch
from gridloom.runtime.data.tasks import fitting_canvas
from gridloom.runtime.data.views import ViewTable, view_table

PERIOD = 100
"""Batches after which the pattern of canvases repeats."""


class CanvasSampler:
    """An endless, random-access stream of batches, each of tasks of one canvas."""

    def __init__(self, dataset: Dataset, seed: int, views: ViewTable | None = None) -> None:
        """Draw the views (unless given). Raises DataError for a task without training pairs."""
        augment = dataset.augment
        self.views = view_table(dataset.tasks, seed, augment.copies, augment) if views is None else views
        chosen = np.array([fitting_canvas(task, dataset.sides) for task in dataset.tasks])
        self.samplers = [
            Sampler(dataset, seed, self.views, members=np.flatnonzero(chosen == side), canvas=side)
            for side in dataset.sides if (chosen == side).any()
        ]
        self._turns, self._quotas = turns([sampler.epoch_rows for sampler in self.samplers], PERIOD)
        self._before = [self._turns[:slot].count(turn) for slot, turn in enumerate(self._turns)]

    @property
    def shares(self) -> dict[int, float]:
        """Share of the batches on each canvas, by its side."""
        total = len(self._turns)
        return {s.canvas: quota / total for s, quota in zip(self.samplers, self._quotas, strict=True)}

    def batch(self, step: int, batch_size: int) -> TrainBatch:
        """The rows of a step, from 0."""
        period, slot = divmod(step, len(self._turns))
        turn = self._turns[slot]
        return self.samplers[turn].batch(period * self._quotas[turn] + self._before[slot], batch_size)


def turns(weights: Sequence[int], period: int) -> tuple[list[int], list[int]]:
    """Spread turns over a period in proportion to weights, at least one each. Returns whose turn it is, and how many.

    Every one of an owner's n turns stands near (k + 1/2) / n of the period.
    """
    total = sum(weights)
    exact = [weight * period / total for weight in weights]
    quotas = [max(1, int(share)) for share in exact]
    while sum(quotas) < period:
        quotas[max(range(len(quotas)), key=lambda i: exact[i] - quotas[i])] += 1
    places = sorted(((k + 0.5) / quota, owner) for owner, quota in enumerate(quotas) for k in range(quota))
    return [owner for _, owner in places], quotas
