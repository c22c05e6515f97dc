"""Validation of a joint training: the first attempt at held-apart test inputs, whose views vote.

The prompt shows the task's training pairs and the test input, as in solving; no feedback and no answer is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.tokens import crop_back, encode_batch
from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.training.held_apart import TasksApart
from gridloom.runtime.training.joint.batches import PairKey
from gridloom.runtime.training.joint.loop import JointTrainer
from gridloom.runtime.training.joint.reader import JointReader
from gridloom.runtime.training.validate import TaskValidator, finite
from gridloom.specs.validation import Validation


def asked_dataset(apart: TasksApart) -> Dataset:
    """Return a dataset with a task for each held-apart pair: the pairs that are trained on, then that pair."""
    trained = {task.task_id: task.train_pairs for task in apart.dataset.tasks}
    tasks = [
        Task(task.task_id, task.subset, trained[task.task_id], (), (Pair(given, answer),))
        for task in apart.tasks
        for given, answer in zip(task.tests, apart.answers[task.task_id], strict=True)
    ]
    return replace(apart.dataset, tasks=tuple(tasks))


class JointValidator(TaskValidator):
    """Test inputs of ARC tasks, read by the language model and answered by adapter and network."""

    def __init__(
        self, apart: TasksApart, trainer: JointTrainer, reader: JointReader, ids: PuzzleIds, wanted: Validation
    ) -> None:
        """Args: reader: reader of `asked_dataset(apart)`."""
        super().__init__(apart, trainer.network, ids, wanted)
        self.trainer, self.reader = trainer, reader
        # the targets and the tasks of the reader's dataset are in one order
        self.keys: list[PairKey] = [(i, len(task.demos)) for i, task in enumerate(reader.dataset.tasks)]

    def answer(self, network: Network, number: int) -> list[tuple[int, int, Grid | None, float]]:
        """Return (target, view, grid, halting probability) of each row of a batch."""
        batch = self.batches[number]
        asked = sorted({i for i, _ in batch})
        reading = self.reader.current([self.keys[i] for i in asked])
        place = torch.tensor([asked.index(i) for i, _ in batch], device=network.device)
        made = self.trainer.bridge.inject(reading.hidden.to(network.device), self.trainer.network, reading.mask)

        def of_rows(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[place]

        given = made.injection
        injection = Injection(of_rows(given.z_H), of_rows(given.z_L), of_rows(given.term))
        views = [self.targets[i].voters[view].view for i, view in batch]
        grids = [self.targets[i].task.tests[self.targets[i].test_index] for i, _ in batch]
        tokens = torch.from_numpy(encode_batch(grids, network.canvas, views)).to(network.device)
        ids = torch.tensor([self.targets[i].voters[view].puzzle_id for i, view in batch], device=network.device)
        steps = self.wanted.act_steps or self.trainer.act_steps
        found = network.trace(Rows(tokens, ids), injection, steps)
        halting = torch.sigmoid(finite(found.q_halt[-1]).double()).tolist()
        answers = crop_back(found.tokens.cpu().numpy(), network.canvas, views)
        return [(i, view, grid, q) for (i, view), grid, q in zip(batch, answers, halting, strict=True)]


def published(trainer: JointTrainer, readers: Sequence[JointReader]) -> Callable[[], Any]:
    """Return what opens a context with the trainer's network, for validation; joint training has no averages."""

    @contextmanager
    def opened() -> Iterator[Network]:
        for reader in readers:
            reader.forget_heads()
        with torch.no_grad():
            yield trainer.network

    return opened
