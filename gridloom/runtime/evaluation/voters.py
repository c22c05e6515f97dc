"""Voters of an evaluation on ARC tasks: for each test input, checkpoints under views."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import Bundle, load_bundle, require
from gridloom.runtime.data.arc.known_views import known_views
from gridloom.runtime.data.arc.packing.row_shapes import ShapeRule, turned
from gridloom.runtime.data.arc.tokens import encode_batch
from gridloom.runtime.data.arc.views import IDENTITY, View
from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import Grid, Task, fitting_canvas
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.models.network import TRIAL_ROWS, Network
from gridloom.runtime.models.steps import Rows
from gridloom.specs.stages import EarlyStop, EvaluateStage
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """Checkpoint that votes."""

    name: str
    """Name of the checkpoint's stage in the spec."""
    key: str
    bundle: Bundle


@dataclass(frozen=True, slots=True)
class Voter:
    """Row of a batch: a member that answers under a view."""

    member: int
    view: View
    puzzle_id: int
    """Member's puzzle id of the task under the view; 0 for a task that the member was not trained on."""
    canvas: int
    """Side of the row's canvas in cells."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Test input with its voters and votes."""

    task: Task
    test_index: int
    voters: tuple[Voter, ...]
    """Voters, members alternating, each with the identity first."""
    ballots: Ballots
    own: tuple[Ballots, ...]
    """Votes of each member; empty for a single checkpoint."""
    shape: tuple[int, int]
    """Rows and columns of the packed row of the input under the identity, for members with packed rows."""

    def add(self, row: Row) -> None:
        """Count a row."""
        # sigmoid in float64: exact enough to rank, and equal on all platforms
        halting = float(1.0 / (1.0 + np.exp(-row.q_halt)))
        self.ballots.add(row.grid, halting)
        if self.own:
            self.own[self.voters[row.view].member].add(row.grid, halting)

    def settled_members(self, stop: EarlyStop) -> frozenset[int]:
        """Return the members whose remaining rows can change neither the ensemble's result nor their own."""
        if not self.ballots.is_settled(stop):
            return frozenset()
        own = self.own or (self.ballots,)
        return frozenset(number for number, ballots in enumerate(own) if ballots.is_settled(stop))


@dataclass(frozen=True, slots=True)
class Row:
    """Answer of one voter to one test input."""

    target: int
    view: int
    """Index of the voter."""
    grid: Grid | None
    q_halt: float
    act_steps: int

    def to_json(self) -> list[Any]:
        """Return the row as JSON values for `from_json`."""
        return [self.target, self.view, None if self.grid is None else rows(self.grid), self.q_halt, self.act_steps]

    @classmethod
    def from_json(cls, values: list[Any]) -> Row:
        """Return the row of `to_json` values."""
        target, view, cells, q_halt, act_steps = values
        return cls(target, view, None if cells is None else np.array(cells, dtype=np.uint8), q_halt, act_steps)


def load_members(
    spec: EvaluateStage, inputs: Mapping[str, Artifact], canvas: int, device: str, say: Callable[[str], None]
) -> Iterator[Member]:
    """Load the voting checkpoints, compiled if the spec sets `compile`. Raises ModelError for other training data."""
    for field, name in spec.members().items():
        bundle = load_bundle(inputs[field].path, device, weights="run")
        require(bundle, kind="arc", canvas=canvas, where=f"the checkpoint of {name!r}")
        bundle.network.compile_step(
            spec.compile, [side**2 for side in bundle.network.sides], TRIAL_ROWS, say, any_rows=True
        )
        yield Member(name, inputs[field].key, bundle)


def inputs_of(task: Task, members: Sequence[Member], most: int | None) -> Iterator[Target]:
    """Yield the test inputs of a task with their voters. Raises ModelError for a grid larger than a canvas."""
    lists = [_voters(task, number, member.bundle, most) for number, member in enumerate(members)]
    voters = tuple(voter for turn in zip_longest(*lists) for voter in turn if voter is not None)
    rule = ShapeRule.of(task, members[0].bundle.network.canvas)
    for number, grid in enumerate(task.tests):
        for member in members:
            if max(grid.shape) > member.bundle.network.canvas:
                raise ModelError(
                    f"task {task.task_id} has a side of {max(grid.shape)}, the canvas of {member.name!r} is "
                    f"{member.bundle.network.canvas}",
                    "leave the task out (data.select.max_side) or train on a larger canvas (data.canvas)",
                )
        own = tuple(Ballots(len(votes)) for votes in lists) if len(lists) > 1 else ()
        shape = rule.row((grid.shape[0], grid.shape[1]))
        yield Target(task, number, voters, Ballots(len(voters)), own, shape)


def rows_of(network: Network, chosen: Sequence[tuple[Target, Voter]], canvas: int) -> tuple[Rows, NDArray[np.uint8]]:
    """Return the rows of test inputs under the views of their voters, on canvases of one side, on the network's device;
    and their tokens on the host, uint8 [B, L]."""
    views = [voter.view for _, voter in chosen]
    tokens = encode_batch([target.task.tests[target.test_index] for target, _ in chosen], canvas, views)
    ids = torch.tensor([voter.puzzle_id for _, voter in chosen], device=network.device)
    shapes = None
    if network.packed:
        plain = np.array([target.shape for target, _ in chosen], dtype=np.int64)
        shapes = torch.from_numpy(turned(plain, np.array([view.dihedral for view in views], dtype=np.uint8)))
    return Rows(torch.from_numpy(tokens).to(network.device), ids, shapes=shapes), tokens


def _voters(task: Task, number: int, bundle: Bundle, most: int | None) -> list[Voter]:
    """Return the voters of one member on each test input of a task."""
    index = bundle.puzzle_ids.index
    views = (IDENTITY, *known_views(bundle.puzzle_ids, task))[:most]
    whole = index.get(IDENTITY.name(task.task_id), 0)
    canvas = fitting_canvas(task, bundle.network.sides)
    return [Voter(number, view, index.get(view.name(task.task_id), whole), canvas) for view in views]
