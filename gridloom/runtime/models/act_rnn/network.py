"""ACT-RNN (Graves 2016, arXiv 1603.08983): a recurrent cell runs several ponder steps on each input.

Shapes: B rows, T inputs of a row, F features, H width, V classes + 1, M ponder steps at most.
With s_n the state after ponder step n of an input and q_n = sigmoid(w s_n + b):

    N = min(M, first n with q_1 + ... + q_n >= 1 - epsilon)                     (eq. 6)
    R = 1 - (q_1 + ... + q_(N-1));  p_n = q_n for n < N, p_N = R                (eq. 7, 8)
    s = sum of p_n s_n, which the output map reads and the next input starts from   (eq. 9)
    ponder cost of the row: N + R, averaged over its valid inputs                   (eq. 13)

N is constant in the backward pass: d(N + R) / dq_n = -1 for n < N and 0 from N on.
A training step processes whole rows, so every row has halted after a step; the carry holds data and counts, no state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape, refuse_problems
from gridloom.runtime.models.network import DTYPES, Network
from gridloom.runtime.models.steps import Rows


@dataclass(frozen=True, slots=True)
class ActRnnCarry:
    """Data and counts of rows; no state persists beyond a row."""

    steps: Tensor
    """int32 [B], ponder steps of the row, over its valid inputs."""
    halted: Tensor
    """bool [B], True."""
    labels: Tensor
    """uint8 [B, T], class + 1; label 0 is not scored."""
    puzzle_ids: Tensor
    """int64 [B], 0."""


@dataclass(frozen=True, slots=True)
class ActRnnOutput:
    """Prediction of a row."""

    logits: Tensor
    """[B, T, V]"""
    q_halt: Tensor
    """fp32 [B, T], logit of the halting probability summed up to the last ponder step; +inf where it reached 1."""
    ponder: Tensor
    """fp32 [B], N + R averaged over the valid inputs."""
    puzzle_rows: None = None


@dataclass(frozen=True, slots=True)
class Pondered:
    """Result of pondering one input."""

    state: Tensor
    """[B, H], mean state weighted by p_n."""
    ponder: Tensor
    """fp32 [B], N + R."""
    steps: Tensor
    """int32 [B], N."""
    mass: Tensor
    """fp32 [B], sum of the halting probabilities up to step N."""


@dataclass(frozen=True, slots=True)
class ActRnnLosses:
    """Losses of rows."""

    classification: Tensor
    """fp32 [B], cross-entropy averaged over the scored inputs."""
    ponder: Tensor
    """fp32 [B], ponder cost times its weight tau."""
    num_right: Tensor
    """int64 [B]"""
    num_scored: Tensor
    """int64 [B]"""

    def total(self) -> Tensor:
        """Sum over the rows of classification loss and ponder cost."""
        return (self.classification + self.ponder).sum()


class ActRnn(Network):
    """Recurrent network with adaptive computation time on vectors."""

    CARRY: ClassVar[type[Any]] = ActRnnCarry
    STEP_FIGURES: ClassVar[tuple[str, ...]] = ("loss", "loss_classification", "loss_ponder")

    def __init__(self, spec: ActRnnModel, rows: RowShape, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights. Raises ModelError for rows that are not vectors."""
        super().__init__()
        refuse_problems(spec)
        if not rows.num_features:
            raise ModelError("an act_rnn reads vectors; these rows are tokens", "use parity, logic or sort data")
        self.spec: ActRnnModel = spec
        self.rows, self.sides = rows, (rows.canvas,)
        self.dtype = DTYPES[spec.precision]
        width = spec.hidden_size
        self.cell_input = nn.Linear(rows.num_features + 1, width)
        self.cell_state = nn.Linear(width, width, bias=False)
        self.halting_unit = nn.Linear(width, 1)
        self.output = nn.Linear(width, rows.vocabulary)
        with torch.no_grad():
            for linear in (self.cell_input, self.cell_state, self.output, self.halting_unit):
                bound = linear.in_features**-0.5
                for parameter in linear.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
            self.halting_unit.bias.fill_(spec.halt_bias)

    @classmethod
    def for_rows(
        cls,
        spec: ActRnnModel,
        rows: RowShape,
        ids: PuzzleIds,
        *,
        per_task: bool = False,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Build a network for rows of a shape; it has no puzzle embedding."""
        return cls(spec, rows, generator)

    def matrices(self) -> list[nn.Parameter]:
        """Return the matrices of the cell."""
        return [
            weight
            for linear in (self.cell_input, self.cell_state)
            for weight in linear.parameters()
            if weight.ndim == 2
        ]

    def initial_carry(
        self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None
    ) -> ActRnnCarry:
        """Return the carry of rows that take new data."""
        device = self.device if device is None else torch.device(device)
        num_steps = self.rows.cells if num_cells is None else num_cells
        return ActRnnCarry(
            steps=torch.zeros(batch, dtype=torch.int32, device=device),
            halted=torch.ones(batch, dtype=torch.bool, device=device),
            labels=torch.zeros(batch, num_steps, dtype=torch.uint8, device=device),
            puzzle_ids=torch.zeros(batch, dtype=torch.int64, device=device),
        )

    def ponder(self, x: Tensor, state: Tensor) -> Pondered:
        """Run the cell on one input [B, F] from a state [B, H] until every row has halted, at most M steps."""
        batch = len(x)
        running = torch.ones(batch, dtype=torch.bool, device=x.device)
        mass, ponder = torch.zeros(batch, device=x.device), torch.zeros(batch, device=x.device)
        steps = torch.zeros(batch, dtype=torch.int32, device=x.device)
        mean = torch.zeros_like(state)
        # W [x, flag] + b of the first ponder step and of the later ones
        first = self.cell_input(F.pad(x, (0, 1), value=1.0))
        later = self.cell_input(F.pad(x, (0, 1), value=0.0))
        limit = self.spec.halt_max_steps
        for n in range(1, limit + 1):
            state = torch.tanh((first if n == 1 else later) + self.cell_state(state))
            q = torch.sigmoid(self.halting_unit(state).float()).squeeze(1)
            ends = running & ((mass + q >= 1 - self.spec.halt_epsilon) if n < limit else torch.ones_like(running))
            p = torch.where(ends, 1 - mass, torch.where(running, q, 0.0))
            mean = mean + p[:, None].to(mean.dtype) * state
            ponder = torch.where(ends, n + 1 - mass, ponder)
            steps = torch.where(ends, n, steps).to(torch.int32)
            mass = torch.where(running, mass + q, mass)
            running = running & ~ends
            if not bool(running.any()):
                break
        return Pondered(mean, ponder, steps, mass.clamp(max=1.0))

    def step(
        self,
        rows: Rows,
        carry: ActRnnCarry,
        *,
        generator: torch.Generator | None = None,
        least_steps: Tensor | None = None,
        heads: bool = True,
    ) -> tuple[ActRnnCarry, ActRnnOutput]:
        """Ponder every input of every row; inputs beyond a row's length have no effect and no ponder cost."""
        inputs = rows.inputs.to(self.dtype)
        batch, num_steps = inputs.shape[:2]
        lengths = torch.full((batch,), num_steps, device=inputs.device) if rows.lengths is None else rows.lengths
        state = inputs.new_zeros(batch, self.spec.hidden_size)
        cost = torch.zeros(batch, device=inputs.device)
        steps = torch.zeros(batch, dtype=torch.int32, device=inputs.device)
        logits, masses = [], []
        for t in range(num_steps):
            valid = lengths > t
            made = self.ponder(inputs[:, t], state)
            state = torch.where(valid[:, None], made.state, state)
            cost = cost + torch.where(valid, made.ponder, 0.0)
            steps = steps + torch.where(valid, made.steps, 0)
            logits.append(self.output(state))
            masses.append(torch.where(valid, made.mass, 1.0))
        labels = torch.zeros_like(carry.labels) if rows.labels is None else rows.labels
        after = ActRnnCarry(steps.to(torch.int32), torch.ones_like(carry.halted), labels, carry.puzzle_ids)
        q_halt = torch.logit(torch.stack(masses, dim=1).detach().float())
        return after, ActRnnOutput(torch.stack(logits, dim=1), q_halt, cost / lengths.clamp(min=1))

    def losses(self, output: ActRnnOutput, carry: ActRnnCarry) -> ActRnnLosses:
        """Return cross-entropy over the scored inputs and the weighted ponder cost."""
        scored = carry.labels != 0
        right = (output.logits.detach().argmax(dim=-1) == carry.labels) & scored
        return ActRnnLosses(
            self.answer_loss(output.logits, carry.labels),
            self.spec.ponder_weight * output.ponder,
            right.sum(dim=1),
            scored.sum(dim=1),
        )

    def figures(self, output: ActRnnOutput, carry: ActRnnCarry, losses: ActRnnLosses, batch_size: int) -> Tensor:
        """Return fp32 [7]: losses / batch_size, exact rows, accuracy over inputs, ponder steps, rows."""
        scored = losses.num_scored > 0
        return torch.stack(
            [
                losses.total().detach() / batch_size,
                losses.classification.detach().sum() / batch_size,
                losses.ponder.detach().sum() / batch_size,
                (scored & (losses.num_right == losses.num_scored)).sum(),
                (losses.num_right / losses.num_scored.clamp(min=1)).sum(),
                torch.where(scored, carry.steps, 0).sum(),
                scored.sum(),
            ]
        )
