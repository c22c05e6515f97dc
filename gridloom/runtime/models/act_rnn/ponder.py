"""Pondering of a sequence of inputs (arXiv 1603.08983), with its backward pass by hand.

Shapes: B rows, T inputs of a row, H width, G gates times H, M ponder steps at most. With s_n the state after ponder
step n of an input and q_n = sigmoid(w h_n + b):

    N = min(M, first n with A_n = q_1 + ... + q_n >= 1 - epsilon)               (eq. 6)
    R = 1 - A_(N-1);  p_n = q_n for n < N, p_N = R                              (eq. 7, 8)
    mean state = sum of p_n s_n, h and c alike, from which the next input starts    (eq. 9)
    ponder cost of the input: N + R                                             (eq. 13)

N is constant in the backward pass: with a_n = (gradient of the mean state) . s_n, the loss has the derivative
a_n - a_N - (gradient of R) by q_n for n < N, and 0 from N on.

A row that has halted is dropped, as soon as that costs less than it saves: it is then neither in the products of later
ponder steps nor stored for the backward pass. Until then it has the weight p_n = 0. A row behind its length is never
processed. The host counts the rows that halt, so a GPU is waited for once a ponder step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gridloom.runtime.models.act_rnn.cells import Cell, State
from gridloom.runtime.models.act_rnn.gradients import PonderGradients, PonderStep

DROP_COST = 2**21
"""Multiply-adds of products with U that take as long as it takes to drop rows, about: 0.1 ms of a CPU core. Rows are
dropped once those that have halted would have cost as many, which is at most twice the least possible time."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule by which the pondering of an input ends."""

    limit: int
    """Ponder steps of an input at most, M."""
    epsilon: float
    fixed: bool = False
    """Whether every input has M steps, of which the last alone has weight, and no ponder cost."""


class Weights(NamedTuple):
    """Weights of the recurrent part."""

    flag: Tensor
    """fp32 [G], added to the pre-activations of an input's first ponder step."""
    state: Tensor
    """[G, H], U; its dtype is that of the product."""
    bias: Tensor | None
    """fp32 [G], b_u of a GRU."""
    halting: Tensor
    """fp32 [H], w."""
    halting_bias: Tensor
    """fp32 [1], b."""


class Pondered(NamedTuple):
    """Result of pondering T inputs of B rows. An input behind a row's length has cost and facts 0."""

    state: Tensor
    """fp32 [T, B, H], mean state h; behind a row's length that of its last input."""
    cost: Tensor
    """fp32 [T, B], N + R; 0 under `fixed`."""
    facts: Tensor
    """fp32 [T, 4, B]: N, R (0 under `fixed`), A_N (not bounded by 1), and 1 where A_N reached 1 - epsilon, so that the
    limit did not force the halt. Constant for autograd: the gradient of R goes through `cost`."""

    @property
    def steps(self) -> Tensor:
        """N, fp32 [T, B]."""
        return self.facts[:, 0]

    @property
    def remainder(self) -> Tensor:
        """R, fp32 [T, B]."""
        return self.facts[:, 1]

    @property
    def mass(self) -> Tensor:
        """A_N, fp32 [T, B]."""
        return self.facts[:, 2]

    @property
    def natural(self) -> Tensor:
        """Whether the halting unit ended the pondering, bool [T, B]."""
        return self.facts[:, 3] > 0


def ponder(
    x: Tensor, weights: Weights, cell: Cell, rule: Rule, lengths: Tensor | None = None, start: State | None = None
) -> Pondered:
    """Ponder the inputs of every row in turn.

    Args:
        x: fp32 [T, B, G], share W_x x + b of the inputs in the pre-activations, without the flag's.
        lengths: int64 [B] on the CPU, inputs of each row; None if all T are.
        start: state before the first input; zeros when None.
    """
    state = [None] * cell.states if start is None else list(start)
    keeps = torch.is_grad_enabled()
    return Pondered(*_Ponder.apply(x, *weights, lengths, cell, rule, keeps, *state))  # type: ignore[no-untyped-call]


class _Ponder(torch.autograd.Function):
    """The pondering as one operation."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        flag: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        halting: Tensor,
        halting_bias: Tensor,
        lengths: Tensor | None,
        cell: Cell,
        rule: Rule,
        keeps: bool,
        *start: Tensor | None,
    ) -> tuple[Tensor, ...]:
        num_inputs, batch, _ = x.shape
        width = halting.shape[0]
        # the records hold mean states; a view of the output among them would keep its own graph alive for ever
        means: list[Tensor] = []
        facts = x.new_zeros(num_inputs, 4, batch)
        zero = start[0] is None
        state: State = tuple(x.new_zeros(batch, width) if part is None else part for part in start)
        records: list[tuple[Tensor | None, list[PonderStep]]] = []
        fewest = num_inputs if lengths is None else int(lengths.min())
        for t in range(num_inputs):
            rows = None
            if lengths is not None and t >= fewest:
                rows = (lengths > t).nonzero().squeeze(1).to(x.device)
                if not rows.shape[0]:
                    means.append(state[0])
                    records.append((rows, []))
                    continue
            memory = [torch.empty_like(part) if rows is None else part.clone() for part in state]
            steps = _one_input(
                x[t] if rows is None else x[t].index_select(0, rows),
                state if rows is None else tuple(part.index_select(0, rows) for part in state),
                rows,
                zero and t == 0,
                Weights(flag, weight, bias, halting, halting_bias),
                cell,
                rule,
                keeps,
                memory,
                facts[t],
            )
            state = tuple(memory)
            means.append(state[0])
            records.append((rows, steps))
        cost = torch.zeros_like(facts[:, 0]) if rule.fixed else facts[:, 0] + facts[:, 1]
        ctx.mark_non_differentiable(facts)
        if keeps:
            ctx.save_for_backward(weight, bias, halting)
            ctx.records, ctx.cell, ctx.rule, ctx.zero = records, cell, rule, zero
            ctx.shape = x.shape
        # of a single input without a copy: no record holds its mean state
        return means[0][None] if num_inputs == 1 else torch.stack(means), cost, facts

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_mean: Tensor, d_cost: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        weight, bias, halting = ctx.saved_tensors
        cell: Cell = ctx.cell
        num_inputs, batch, gates = ctx.shape
        into = PonderGradients(weight, halting, cell)
        dx = d_mean.new_zeros(num_inputs, batch, gates) if num_inputs > 1 or ctx.records[0][0] is not None else None
        carried = [d_mean.new_zeros(batch, halting.shape[0]) for _ in range(cell.states)]
        for t in range(num_inputs - 1, -1, -1):
            rows, steps = ctx.records[t]
            carried[0] = carried[0] + d_mean[t] if t < num_inputs - 1 else d_mean[t]
            if not steps:
                continue
            taken = carried if rows is None else [part.index_select(0, rows) for part in carried]
            by_cost = d_cost[t] if rows is None else d_cost[t].index_select(0, rows)
            by_x, before = into.one_input(steps, taken, by_cost, ctx.zero and t == 0)
            if dx is None:
                dx, carried = by_x[None], before
            elif rows is None:
                dx[t], carried = by_x, before
            else:
                dx[t].index_copy_(0, rows, by_x)
                # of the first input's zero state there are none
                carried = [part.index_copy(0, rows, new) for part, new in zip(carried, before, strict=False)]
        d_weight = into.weight()
        d_bias = None if bias is None else into.bias()
        starts = [None] * cell.states if ctx.zero else carried
        return dx, into.flag, d_weight, d_bias, into.halting, into.halting_bias(), None, None, None, None, *starts


def _product(state: Tensor, weights: Weights, zero: bool) -> Tensor | None:
    """Return U h + b_u, fp32 [b, G]; None where both are zero. A state of zeros needs no product."""
    if zero:
        return None if weights.bias is None else weights.bias.expand(state.shape[0], -1).clone()
    if weights.state.dtype == state.dtype:
        if weights.bias is None:
            return state @ weights.state.t()
        return torch.addmm(weights.bias, state, weights.state.t())
    made = (state.to(weights.state.dtype) @ weights.state.t()).to(state.dtype)
    return made if weights.bias is None else made.add_(weights.bias)


def _one_input(
    x: Tensor,
    state: State,
    rows: Tensor | None,
    zero: bool,
    weights: Weights,
    cell: Cell,
    rule: Rule,
    keeps: bool,
    memory: list[Tensor],
    facts: Tensor,
) -> list[PonderStep]:
    """Ponder one input of b rows; write their mean states into `memory` and (N, R, A_N, natural) into `facts`.

    Args:
        rows: int64 [b], places of the rows in `memory` and `facts`; None for all of them.
        zero: whether the state is zero.
    """
    steps: list[PonderStep] = []
    running = x.shape[0]
    left = x.new_ones(running)  # 1 - A_(n-1); 0 of a row that has halted, so that p_n = 0
    sums: list[Tensor] | None = None
    local: Tensor | None = None
    past: list[
        tuple[Tensor, Tensor]
    ] = []  # (1 - A_(n-1), 1 - A_n) of the steps since a row halted without being dropped
    idle = 0
    for n in range(1, rule.limit + 1):
        before = state
        product = _product(state[0], weights, zero and n == 1)
        state, saved = cell.forward(torch.add(x, weights.flag) if n == 1 else x, product, before)
        q = torch.addmv(weights.halting_bias, state[0], weights.halting).sigmoid_()
        after = torch.sub(left, q)
        done = after <= rule.epsilon
        num_done = running if n == rule.limit else 0 if rule.fixed else int(torch.count_nonzero(done))
        ends = num_done == running
        p: Tensor | None = None
        if rule.fixed:
            sums = list(state)
        else:
            p = left if ends else q if num_done == 0 else torch.where(done, left, q)
            column = p.unsqueeze(1)
            if sums is None:
                sums = [torch.mul(column, part) for part in state]
            else:
                for one, part in zip(sums, state, strict=True):
                    one.addcmul_(column, part)
        keep = None
        if num_done:
            past.append((left, after))
            idle += num_done
            if ends or idle * weights.state.numel() > DROP_COST:
                halted = None if ends else done.nonzero().squeeze(1)
                places = _compose(rows, _compose(local, halted))
                found = _facts(past, n, torch.ones_like(done) if rule.fixed else done, rule.fixed)
                if places is None:
                    facts.copy_(found)
                else:
                    facts.index_copy_(1, places, found if halted is None else found.index_select(1, halted))
                for kept, one in zip(memory, sums, strict=True):
                    if places is None:
                        kept.copy_(one)
                    else:
                        kept.index_copy_(0, places, one if halted is None else one.index_select(0, halted))
                if not ends:
                    keep = done.logical_not().nonzero().squeeze(1)
        if keeps:
            steps.append(PonderStep(before, state, saved, q, p, local, None if ends or not num_done else done, keep))
        if ends:
            break
        left = after if not num_done else after.masked_fill(done, 0.0)
        if keep is not None:
            running, idle = running - num_done, 0
            past.clear()
            x, left = x.index_select(0, keep), left.index_select(0, keep)
            state = tuple(part.index_select(0, keep) for part in state)
            sums = [part.index_select(0, keep) for part in sums]
            local = _compose(local, keep)
    return steps


def _facts(past: list[tuple[Tensor, Tensor]], n: int, done: Tensor, fixed: bool) -> Tensor:
    """Return N, R, A_N and whether the halting unit ended it, fp32 [4, b], of rows that end by step n.

    Args:
        past: 1 - A_(m-1), 0 of a row that had halted, and 1 - A_m, of each step m from the first in which a row halted
            to n, [b] each.
        done: bool [b], rows whose A_n reached 1 - epsilon.
        fixed: whether the limit alone ends the pondering.
    """
    left, after = past[-1]
    if fixed:
        return torch.stack((torch.full_like(left, n), torch.zeros_like(left), 1 - after, torch.zeros_like(left)))
    natural = done.to(left.dtype)
    if len(past) == 1:
        return torch.stack((torch.full_like(left, n), left, torch.rsub(after, 1), natural))
    lefts, afters = (torch.stack(parts) for parts in zip(*past, strict=True))
    made = (lefts > 0).sum(dim=0)
    last = (made - 1)[None]
    remainder, mass = lefts.gather(0, last)[0], 1 - afters.gather(0, last)[0]
    return torch.stack(((made + (n - len(past))).to(left.dtype), remainder, mass, natural))


def _compose(outer: Tensor | None, inner: Tensor | None) -> Tensor | None:
    """Return outer[inner] for places, of which None stands for all."""
    if outer is None:
        return inner
    return outer if inner is None else outer.index_select(0, inner)
