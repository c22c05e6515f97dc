"""Counts of floating-point operations of matrix products. Pure arithmetic, independent of a device.

A multiply-add is two operations. Linear maps, attention products and output heads are counted, as by PyTorch's flop
counter; norms, activations, softmax and embeddings are not. A backward pass costs twice the forward pass, 2.5 times for
attention (the scores are recomputed), and once if the input needs no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of a forward pass, attention products separately, since their backward pass costs more."""

    linear: int = 0
    attention: int = 0
    first: int = 0
    """Products whose input needs no gradient: the backward pass computes the weight gradient alone."""

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
