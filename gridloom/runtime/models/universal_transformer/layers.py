"""Building blocks of the Universal Transformer: layer norm, linear maps, the shared block.

Shapes: N positions, H width, h heads, K and V widths of keys and values over all heads, F width of the hidden layer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.recursive.layers import Linear
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel

EPSILON = 1e-6
"""Epsilon of the layer norms."""


def linear(width: int, out: int, *, bias: bool = True, generator: torch.Generator | None = None) -> Linear:
    """Return a linear map with weights and bias uniform in +- 1 / sqrt(width), as torch.nn.Linear has them."""
    made = Linear(width, out, bias=bias)
    bound = width**-0.5
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return made


class Norm(nn.Module):
    """Layer norm over the last dimension with gain and shift, in the dtype of its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., H] to the same shape."""
        return F.layer_norm(x, (x.shape[-1],), self.gain.to(x.dtype), self.shift.to(x.dtype), EPSILON)


class HaltingUnit(nn.Module):
    """Halting probability of a position, sigmoid(w s + b), in fp32."""

    frozen: bool
    """Whether no gradient passes through the probabilities, to the unit or to the states."""

    def __init__(self, width: int, bias: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.frozen = False
        self.weight = nn.Parameter(torch.empty(1, width).uniform_(-(width**-0.5), width**-0.5, generator=generator))
        self.bias = nn.Parameter(torch.full((1,), bias))

    def forward(self, state: Tensor) -> Tensor:
        """Map states [R, H] to probabilities fp32 [R]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return torch.sigmoid(F.linear(state.float(), self.weight, self.bias)).squeeze(1)


class Block(nn.Module):
    """Shared block of all hops. With a = attention and f = position-wise network, x the state with signals:

    pre-norm:   y = x + a(LN(x));   z = y + f(LN(y))
    post-norm:  y = LN(x + a(x));   z = LN(y + f(y))        (arXiv 1807.03819, eq. 4 and 5)

    a has no biases and scales the products by (K / h)^-0.5; f(y) = W2 relu(W1 y + b1) + b2.
    """

    def __init__(self, spec: UniversalTransformerModel, generator: torch.Generator | None = None) -> None:
        super().__init__()
        width = spec.hidden_size
        self.pre, self.dropout = spec.norm == "pre", spec.dropout
        self.query = linear(width, spec.keys, bias=False, generator=generator)
        self.key_value = linear(width, spec.keys + spec.values, bias=False, generator=generator)
        self.output = linear(spec.values, width, bias=False, generator=generator)
        self.inner = linear(width, spec.filter_size, generator=generator)
        self.outer = linear(spec.filter_size, width, generator=generator)
        self.attention_norm, self.filter_norm = Norm(width), Norm(width)

    def read(self, x: Tensor) -> Tensor:
        """Return what queries, keys and values are computed from, [N, H]."""
        return self.attention_norm(x) if self.pre else x

    def finish(self, x: Tensor, mixed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the states [N, H] after the block.

        Args:
            x: states with signals [N, H].
            mixed: attention over the values [N, V].
            generator: source of dropout on the device of `x`; None without dropout.
        """
        y = x + self._drop(self.output(mixed), generator)
        if not self.pre:
            y = self.attention_norm(y)
        hidden = F.relu(self.inner(self.filter_norm(y) if self.pre else y))
        z = y + self._drop(self.outer(hidden), generator)
        return z if self.pre else self.filter_norm(z)

    def _drop(self, branch: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is None or not self.dropout:
            return branch
        kept = torch.empty_like(branch).bernoulli_(1 - self.dropout, generator=generator)
        return branch * kept / (1 - self.dropout)
