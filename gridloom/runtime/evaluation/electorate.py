"""Test inputs of an evaluation with their voters, and the networks that answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.tokens import crop_back, same_grids
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.evaluation.same_rows import RowAnswer
from gridloom.runtime.evaluation.voters import Member, Row, inputs_of, rows_of
from gridloom.runtime.models.steps import Halting
from gridloom.specs.stages import EvaluateStage


class Electorate:
    """Test inputs with their voters, and the networks that answer."""

    def __init__(self, spec: EvaluateStage, members: tuple[Member, ...], tasks: Sequence[Task]) -> None:
        self.spec, self.members, self.tasks = spec, members, tasks
        self.targets = [target for task in tasks for target in inputs_of(task, members, spec.views)]

    def answer(self, batch: Sequence[tuple[int, int]]) -> list[RowAnswer]:
        """Run the networks on rows (target, view), grouped by member and canvas. Raises ModelError for NaN."""
        found: list[RowAnswer | None] = [None] * len(batch)
        groups: dict[tuple[int, int], list[int]] = {}
        for number, (index, view) in enumerate(batch):
            voter = self.targets[index].voters[view]
            groups.setdefault((voter.member, voter.canvas), []).append(number)
        for (member, canvas), numbers in sorted(groups.items()):
            answers = self._answer_on(self.members[member], canvas, [batch[number] for number in numbers])
            for number, answer in zip(numbers, answers, strict=True):
                found[number] = answer
        return cast(list[RowAnswer], found)

    def _answer_on(self, member: Member, canvas: int, batch: Sequence[tuple[int, int]]) -> list[RowAnswer]:
        network = member.bundle.network
        chosen = [(self.targets[index], self.targets[index].voters[view]) for index, view in batch]
        rows, _ = rows_of(network, chosen, canvas)
        halting = Halting(self.spec.halt, self.spec.patience)
        answers = network.answer(rows, self.spec.act_steps, halting, same_grids)
        logits = answers.q_halt.double().cpu().numpy()
        if not np.isfinite(logits).all():
            task = chosen[int(np.flatnonzero(~np.isfinite(logits))[0])][0].task.task_id
            raise ModelError(
                f"the checkpoint of {member.name!r} gave a value that is not finite on task {task}",
                "train it again, or evaluate an earlier checkpoint",
            )
        columns = answers.tokens.cpu().numpy(), logits.tolist(), answers.steps.tolist()
        return [RowAnswer(*values) for values in zip(*columns, strict=True)]

    def rows(self, batch: Sequence[tuple[int, int]], answers: Sequence[RowAnswer]) -> list[Row]:
        """Return the rows of a batch: the grids of its answers, with the views undone."""
        found: list[Row | None] = [None] * len(batch)
        voters = [self.targets[index].voters[view] for index, view in batch]
        for canvas in sorted({voter.canvas for voter in voters}):
            numbers = [number for number, voter in enumerate(voters) if voter.canvas == canvas]
            tokens = np.stack([answers[number].tokens for number in numbers])
            grids = crop_back(tokens, canvas, [voters[number].view for number in numbers])
            for number, grid in zip(numbers, grids, strict=True):
                found[number] = Row(*batch[number], grid, answers[number].q_halt, answers[number].act_steps)
        return cast(list[Row], found)
