"""Validation of a network in training: rows held apart are answered batch by batch, and counted as `evaluate` counts.

A batch holds the same rows in every validation and on any number of ranks, so figures repeat bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.errors import StageError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.tokens import crop_back
from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.evaluation.compare import compare
from gridloom.runtime.evaluation.puzzles import Tally
from gridloom.runtime.evaluation.summary import summarise
from gridloom.runtime.evaluation.voters import Member, inputs_of, rows_of
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.pondering_spec import PonderingSpec
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.training.held_apart import TasksApart
from gridloom.specs.validation import Validation

PREFIX = "validation_"
"""Prefix of the metrics in the ledger."""
_LEDGER_NAMES = {"pass@1": "pass1", "pass@2": "pass2"}

Best = list[float]
"""[step, figure, cell accuracy] of the best validation, as JSON holds it in a saved state."""


class NotFinite(Exception):
    """Raised for a halting logit that is not finite: the weights have diverged."""


class Validator(ABC):
    """Rows that are answered in each validation, in fixed batches."""

    num_batches: int
    described: str
    """Number of rows in words."""

    @abstractmethod
    def answer(self, network: Network, number: int) -> Any:
        """Answer a batch; the result can be pickled. Raises NotFinite."""

    @abstractmethod
    def figures(self, results: Sequence[Any]) -> dict[str, float]:
        """Count the results of all batches, in order."""


def headline(wanted: Validation, kind: str, figures: Mapping[str, float]) -> float:
    """Return the figure by which states are compared."""
    metric = wanted.metric_for(kind)
    return figures[_LEDGER_NAMES.get(metric, metric)]


def better_of(best: Best | None, step: int, figure: float, figures: Mapping[str, float]) -> Best:
    """Return the better of two validations; equal figures are compared by cell accuracy, and the earlier wins a tie."""
    found = [float(step), figure, figures["cell_accuracy"]]
    return found if best is None or found[1:] > best[1:] else best


class TaskValidator(Validator):
    """Test inputs of ARC tasks, on which views vote."""

    def __init__(self, apart: TasksApart, network: Network, ids: PuzzleIds, wanted: Validation) -> None:
        self.wanted, self.answers = wanted, apart.answers
        member = Member("validation", "", Bundle({NETWORK: network}, ids, meta={}))
        self.targets = [target for task in apart.tasks for target in inputs_of(task, [member], wanted.num_views)]
        places = [(i, view) for i, target in enumerate(self.targets) for view in range(len(target.voters))]
        self.batches: list[list[tuple[int, int]]] = []
        for canvas in sorted({self.targets[i].voters[view].canvas for i, view in places}):
            on_it = [place for place in places if self.targets[place[0]].voters[place[1]].canvas == canvas]
            self.batches += [on_it[at : at + wanted.batch_size] for at in range(0, len(on_it), wanted.batch_size)]
        self.num_batches = len(self.batches)
        most = max(len(target.voters) for target in self.targets)
        self.described = f"{len(self.targets):,} test inputs of {len(apart.tasks):,} tasks under {most} views"

    def answer(self, network: Network, number: int) -> list[tuple[int, int, Grid | None, float]]:
        """Return (target, view, grid, halting probability) of each row of a batch."""
        batch = self.batches[number]
        chosen = [(self.targets[i], self.targets[i].voters[view]) for i, view in batch]
        canvas, views = chosen[0][1].canvas, [voter.view for _, voter in chosen]
        found = network.answer(rows_of(network, chosen, canvas)[0], self.wanted.act_steps)
        halting = torch.sigmoid(finite(found.q_halt).double()).tolist()
        grids = crop_back(found.tokens.cpu().numpy(), canvas, views)
        return [(i, view, grid, q) for (i, view), grid, q in zip(batch, grids, halting, strict=True)]

    def figures(self, results: Sequence[Any]) -> dict[str, float]:
        """Return pass1, pass2, shape_match and cell_accuracy over the tasks, as `evaluate` counts them."""
        rows = sorted((row for result in results for row in result), key=lambda row: row[:2])
        ballots = [Ballots(len(target.voters)) for target in self.targets]
        for i, _, grid, halting in rows:
            ballots[i].add(grid, halting)
        tests: dict[str, list[dict[str, Any]]] = {}
        for target, cast in zip(self.targets, ballots, strict=True):
            answer = self.answers[target.task.task_id][target.test_index]
            tests.setdefault(target.task.task_id, []).append(judged(cast, answer))
        return pass_figures(tests)


def judged(cast: Ballots, answer: Grid) -> dict[str, Any]:
    """Compare the candidates of a test input with its answer, for `pass_figures`."""
    compared = [compare(standing.grid.tolist(), answer) for standing in cast.ranked()]
    first = compared[0] if compared else compare([], answer)
    return {
        "rank": next((number for number, found in enumerate(compared) if found["exact_match"]), None),
        "num_views": cast.num_views,
        "num_cast": cast.num_cast,
        "shape_match": first["shape_match"],
        "cell_accuracy": first["cell_accuracy"],
    }


def pass_figures(tests: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """Return pass1, pass2, shape_match and cell_accuracy: means over tasks of the means over a task's test inputs."""
    found = summarise(tests, (1, 2))
    passed = {f"pass{k}": float(found["pass_at"][str(k)]) for k in (1, 2)}
    return {**passed, **{name: float(found[name]) for name in ("shape_match", "cell_accuracy")}}


@dataclass(frozen=True, slots=True, eq=False)
class ValidationRows:
    """Rows of a validation batch."""

    inputs: NDArray[Any]
    """[B, L] tokens or [B, T, F] vectors."""
    labels: NDArray[np.uint8]
    valid: NDArray[np.int32] | None = None


class RowValidator(Validator):
    """Puzzles or sequences, each answered once."""

    def __init__(
        self,
        rows: Callable[[int, int], ValidationRows],
        total: int,
        noun: str,
        wanted: Validation,
        names: Sequence[str] = ("exact", "cell_accuracy"),
        kind: str = "",
    ) -> None:
        """Args: rows: (first row, end) -> rows. names: figures of interest. kind: kind of the data entry."""
        self.rows, self.total, self.wanted, self.names, self.kind = rows, total, wanted, names, kind
        self.num_batches = -(-total // wanted.batch_size)
        self.described = f"{total:,} {noun}"

    def answer(self, network: Network, number: int) -> Tally:
        """Return the counts of a batch."""
        first = number * self.wanted.batch_size
        batch = self.rows(first, min(first + self.wanted.batch_size, self.total))
        inputs, labels = (torch.from_numpy(table).to(network.device) for table in (batch.inputs, batch.labels))
        valid = None if batch.valid is None else torch.from_numpy(batch.valid).to(network.device)
        ids = torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)
        found = network.answer(Rows(inputs, ids, None, valid), self.wanted.act_steps)
        tally = Tally()
        # numbers have no cells to compare with: every scored place is open
        shown = inputs if inputs.ndim == 2 else torch.zeros_like(labels)
        known = (labels != 0).any(dim=1)  # a row that asks for nothing, such as one number to add, is not right
        tally.add(found.tokens[known], finite(found.q_halt)[known], shown[known], labels[known])
        if isinstance(network.spec, PonderingSpec):
            tally.add_steps(found.steps if found.mean_steps is None else found.mean_steps, found.natural)
        if self.kind == "maze":
            tally.paths.add(batch.inputs, found.tokens.cpu().numpy(), batch.labels)
        return tally

    def figures(self, results: Sequence[Any]) -> dict[str, float]:
        """Return the figures of interest, as `evaluate` counts them; of a network that ponders the steps too.

        Raises StageError where no row asks for anything.
        """
        total = Tally()
        for tally in results:
            total.merge(tally)
        if not total.num_puzzles:
            raise StageError(
                f"none of {self.described} asks for anything, so none can be right", "raise validate.limit"
            )
        shares = {name: share for name, share in total.shares().items() if name in self.names}
        return {**shares, **total.halting()}


def finite(q_halt: Tensor) -> Tensor:
    """Return the logits. Raises NotFinite if one is not a number."""
    if bool(torch.isnan(q_halt).any()):  # a halting probability of exactly 1 is an infinite logit
        raise NotFinite
    return q_halt
