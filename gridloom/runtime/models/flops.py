"""What networks cost, from their configurations: parameters exactly, floating-point operations of the matrix products,
and bytes. Pure arithmetic; nothing here knows a device.

A multiply-add is two operations. Counted are linear maps, attention products and output heads, as PyTorch's flop
counter does; norms, activations, softmax and embeddings are left out. A backward pass costs twice the forward pass,
attention's 2.5 times (it computes the scores again), and once where the input needs no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a forward pass, with the attention products apart, since their backward pass costs more."""

    linear: int = 0
    attention: int = 0
    first: int = 0
    """Products whose input needs no gradient: only the weights' is computed."""

    def __add__(self, other: Flops) -> Flops:
        return Flops(self.linear + other.linear, self.attention + other.attention, self.first + other.first)

    def __mul__(self, times: int) -> Flops:
        return Flops(self.linear * times, self.attention * times, self.first * times)

    @property
    def forward(self) -> int:
        """Operations of a forward pass."""
        return self.linear + self.attention + self.first

    @property
    def backward(self) -> int:
        """Operations of the backward pass."""
        return 2 * self.linear + self.attention * 5 // 2 + self.first
