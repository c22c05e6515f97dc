"""Recurrent cells with their backward pass by hand. B rows, H width, G gates times H.

A cell maps x [B, G], the input's share W_x [x, flag] + b of the pre-activations, and the state to the next state. The
state is (h,), of the LSTM (h, c), each [B, H]. Everything is fp32.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

State = tuple[Tensor, ...]
"""(h,) or (h, c), each fp32 [B, H]."""

_tanh_backward: Any = torch.ops.aten.tanh_backward
_sigmoid_backward: Any = torch.ops.aten.sigmoid_backward


class Backward(NamedTuple):
    """Gradients of one step of a cell."""

    x: Tensor
    """Gradient of the input's share, [B, G]."""
    product: Tensor
    """Gradient of U h, [B, G]."""
    direct: tuple[Tensor | None, ...]
    """Gradient of each part of the state before, other than through U h; None where that is zero."""


class Cell(Protocol):
    """Step of a cell and its backward pass."""

    gates: int
    """Blocks of H pre-activations."""
    states: int
    """Tensors of the state: 1, or 2 with a memory."""

    def forward(self, x: Tensor, product: Tensor | None, state: State) -> tuple[State, tuple[Tensor, ...]]:
        """Return the next state, and what the backward pass reads.

        Args:
            product: U h, of a GRU with its bias b_u; None stands for zero. It may be overwritten.
        """

    def backward(self, saved: tuple[Tensor, ...], state: State, gradient: list[Tensor]) -> Backward:
        """Return the gradients of a step from `state`, given those of the next state."""


class TanhCell:
    """h' = tanh(x + U h)."""

    gates = 1
    states = 1

    def forward(self, x: Tensor, product: Tensor | None, state: State) -> tuple[State, tuple[Tensor, ...]]:
        """Return ((h',), (h',))."""
        h = torch.tanh(x) if product is None else product.add_(x).tanh_()
        return (h,), (h,)

    def backward(self, saved: tuple[Tensor, ...], state: State, gradient: list[Tensor]) -> Backward:
        """Return the gradients."""
        x = _tanh_backward(gradient[0], saved[0])
        return Backward(x, x, (None,))


class GruCell:
    """GRU with blocks r, z, n as in PyTorch, p = U h + b_u (arXiv 1406.1078).

    r = sigmoid(x_r + p_r);  z = sigmoid(x_z + p_z);  n = tanh(x_n + r p_n);  h' = (1 - z) n + z h
    """

    gates = 3
    states = 1

    def forward(self, x: Tensor, product: Tensor | None, state: State) -> tuple[State, tuple[Tensor, ...]]:
        """Return ((h',), (r and z, n, p_n))."""
        assert product is not None, "the bias b_u is there for a state of zeros too"
        h = state[0]
        width = h.shape[1]
        gates = product[:, : 2 * width].add_(x[:, : 2 * width]).sigmoid_()
        inner = product[:, 2 * width :]
        n = torch.addcmul(x[:, 2 * width :], gates[:, :width], inner).tanh_()
        return (torch.lerp(n, h, gates[:, width:]),), (gates, n, inner)

    def backward(self, saved: tuple[Tensor, ...], state: State, gradient: list[Tensor]) -> Backward:
        """Return the gradients."""
        gates, n, inner = saved
        dh, h = gradient[0], state[0]
        width = h.shape[1]
        r, z = gates[:, :width], gates[:, width:]
        kept = dh * z
        x = dh.new_empty(dh.shape[0], 3 * width)
        dn = _tanh_backward(dh - kept, n)
        x[:, 2 * width :] = dn
        _sigmoid_backward.grad_input(dn * inner, r, grad_input=x[:, :width])
        _sigmoid_backward.grad_input(dh * (h - n), z, grad_input=x[:, width : 2 * width])
        product = x.clone()
        product[:, 2 * width :].mul_(r)
        return Backward(x, product, (kept,))


class LstmCell:
    """LSTM without peepholes, blocks i, f, o, g.

    c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c'), where (i, f, o, g) = x + U h
    """

    gates = 4
    states = 2

    def forward(self, x: Tensor, product: Tensor | None, state: State) -> tuple[State, tuple[Tensor, ...]]:
        """Return ((h', c'), (all gates, tanh(c')))."""
        gates = x.clone() if product is None else product.add_(x)
        width = gates.shape[1] // 4
        gates[:, : 3 * width].sigmoid_()
        gates[:, 3 * width :].tanh_()
        i, f, o, g = gates.chunk(4, dim=1)
        c = torch.addcmul(i * g, f, state[1])
        squashed = torch.tanh(c)
        return (o * squashed, c), (gates, squashed)

    def backward(self, saved: tuple[Tensor, ...], state: State, gradient: list[Tensor]) -> Backward:
        """Return the gradients."""
        gates, squashed = saved
        dh, dc = gradient
        width = dh.shape[1]
        i, f, o, g = gates.chunk(4, dim=1)
        dc = dc + _tanh_backward(dh * o, squashed)
        x = torch.empty_like(gates)
        torch.mul(dc, g, out=x[:, :width])
        torch.mul(dc, state[1], out=x[:, width : 2 * width])
        torch.mul(dh, squashed, out=x[:, 2 * width : 3 * width])
        ahead = x[:, : 3 * width]
        _sigmoid_backward.grad_input(ahead, gates[:, : 3 * width], grad_input=ahead)
        _tanh_backward.grad_input(dc * i, g, grad_input=x[:, 3 * width :])
        return Backward(x, x, (None, dc.mul_(f)))


CELLS: dict[Literal["tanh", "gru", "lstm"], Cell] = {"tanh": TanhCell(), "gru": GruCell(), "lstm": LstmCell()}
"""Cells by the name in a spec."""
