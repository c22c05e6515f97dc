"""Backward pass of pondering: gradients of weights, input and state over the recorded ponder steps of each input.

Shapes: b running rows of a step, H width, G gates times H. `ponder.py` has the equations.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gridloom.runtime.models.act_rnn.cells import Cell, State

_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward


class PonderStep(NamedTuple):
    """What the backward pass reads of a ponder step of b running rows."""

    before: State
    state: State
    saved: tuple[Tensor, ...]
    q: Tensor
    p: Tensor | None
    """[b]; None stands for 1."""
    local: Tensor | None
    """int64 [b], place of each running row among those of the input; None for all of them."""
    done: Tensor | None
    """bool [b], rows that have halted, in this step or before; None if none has, or if all end with this step."""
    keep: Tensor | None
    """int64, places among the b rows of those that go on; None if all do, those that have halted among them."""


class PonderGradients:
    """Gradients of the weights, gathered over the inputs in reverse order."""

    def __init__(self, weight: Tensor, halting: Tensor, cell: Cell) -> None:
        self._weight, self._unit, self._cell = weight, halting, cell
        self.flag = halting.new_zeros(weight.shape[0])
        """[G]"""
        self.halting = torch.zeros_like(halting)
        """[H]"""
        self._logits: list[Tensor] = []
        self._products: list[Tensor] = []
        self._states: list[Tensor] = []
        self._lone: list[Tensor] = []
        """Gradients of products with a state of zeros: of the bias alone."""

    def weight(self) -> Tensor:
        """Return the gradient of U, [G, H]: one product over every ponder step of every input."""
        if not self._products:
            return torch.zeros_like(self._weight)
        dtype = self._weight.dtype
        return _joined(self._products).to(dtype).t() @ _joined(self._states).to(dtype)

    def bias(self) -> Tensor:
        """Return the gradient of b_u, [G]."""
        return _joined([*self._products, *self._lone]).sum(dim=0)

    def halting_bias(self) -> Tensor:
        """Return the gradient of b, [1]."""
        return _joined(self._logits).sum().reshape(1) if self._logits else self.halting.new_zeros(1)

    def one_input(
        self, steps: list[PonderStep], by_mean: list[Tensor], by_cost: Tensor, zero: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the gradients of an input's x [b, G] and of the state before it; of no state if that is zero.

        Args:
            by_mean: gradients of the mean state, [b, H] each.
            by_cost: gradient of N + R, [b].
            zero: whether the state before the input is the constant zero.
        """
        by_state: list[Tensor] | None = None
        by_x: Tensor | None = None
        offset: Tensor | None = None  # a_N + gradient of R of the rows that went on
        for number in range(len(steps) - 1, -1, -1):
            step = steps[number]
            parts = by_mean if step.local is None else [part.index_select(0, step.local) for part in by_mean]
            if step.p is None:  # fixed steps: the last alone has weight
                gradient = parts if by_state is None else by_state
            else:
                gradient = [torch.mul(part, step.p.unsqueeze(1)) for part in parts]
                offset = self._through_halting(step, parts, gradient[0], by_cost, offset)
                for into, part in zip(gradient, by_state or (), strict=by_state is not None):
                    _add(into, step.keep, part)
            made = self._cell.backward(step.saved, step.before, gradient)
            if by_x is None:
                by_x = made.x
            elif step.keep is None:
                by_x = made.x + by_x
            else:
                by_x = made.x.index_add(0, step.keep, by_x)
            if number == 0:
                self.flag += made.x.sum(dim=0)
                if zero:
                    self._lone.append(made.product)
                    break
            self._products.append(made.product)
            self._states.append(step.before[0])
            through = (made.product.to(self._weight.dtype) @ self._weight).to(made.product.dtype)
            direct, *others = made.direct
            by_state = [through if direct is None else direct.add_(through)]
            by_state += [part for part in others if part is not None]
        assert by_x is not None
        if zero:
            return by_x, []
        assert by_state is not None
        return by_x, by_state

    def _through_halting(
        self, step: PonderStep, parts: list[Tensor], into: Tensor, by_cost: Tensor, offset: Tensor | None
    ) -> Tensor:
        """Add the gradient through q_n to that of h, [b, H]; return a_N + (gradient of R) of the b rows.

        Args:
            offset: that of the rows that went on; None at the last step, where no row has. Meaningless for a row that
                halted before without being dropped, until the step in which it halted.
        """
        ending = None
        if offset is None or step.done is not None:
            ending = by_cost if step.local is None else by_cost.index_select(0, step.local)
        a = (parts[0] * step.state[0]).sum(dim=1)
        for part, state in zip(parts[1:], step.state[1:], strict=True):
            a += (part * state).sum(dim=1)
        if offset is None:
            assert ending is not None
            return a + ending
        if step.done is None:
            dq, after = a - offset, offset
        elif step.keep is None:
            assert ending is not None
            # rows that halted before this step get the offset of that step when it is reached
            dq, after = (a - offset).masked_fill_(step.done, 0.0), torch.where(step.done, a + ending, offset)
        else:
            assert ending is not None
            dq = torch.zeros_like(a).index_copy_(0, step.keep, a.index_select(0, step.keep) - offset)
            after = (a + ending).index_copy_(0, step.keep, offset)
        logit = _sigmoid_backward(dq, step.q)
        into.addr_(logit, self._unit)
        self.halting.addmv_(step.state[0].t(), logit)
        self._logits.append(logit)
        return after


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _add(into: Tensor, places: Tensor | None, part: Tensor) -> None:
    if places is None:
        into.add_(part)
    else:
        into.index_add_(0, places, part)
