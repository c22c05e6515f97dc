"""The two bridges between a language model and a TRM: hidden state -> latent, and carry -> prefix embeddings.

Shapes: B rows, H the language model's width, S = prefix + canvas * canvas positions and D the width of the TRM, W the
bottleneck, k prefix embeddings. Adapters are fp32; what they return is cast once, where the TRM or the language model
takes it. The output layer towards the TRM starts at zero, so that the hybrid starts as the plain TRM, and is bounded to
the range that the TRM's unit-RMS states live in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.models.trm import TRM, Injection
from gridloom.specs.models import LatentToTextModel, TextToLatentModel

_Module = TypeVar("_Module", bound=nn.Module)

INIT_STD = 0.02
POSITION_STD = 0.5
"""Against unit-variance features: a fifth of the variance at init differs from position to position."""


class TextToLatent(nn.Module):
    """Maps a hidden state [B, H] to the TRM's initial carry, or to a term of its input embedding."""

    def __init__(self, *, mode: Literal["carry", "injection"], bottleneck: int, hidden_size: int, positions: int,
                 width: int, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights; `build` takes the sizes from a language model and a TRM."""
        super().__init__()
        self.mode, self.bottleneck = mode, bottleneck
        self.hidden_size, self.positions, self.width = hidden_size, positions, width
        self.compress = nn.Linear(hidden_size, bottleneck)
        self.norm = nn.LayerNorm(bottleneck)
        self.position = nn.Parameter(torch.empty(positions, bottleneck))
        self.out = nn.Linear(bottleneck, (2 if mode == "carry" else 1) * width)
        with torch.no_grad():
            nn.init.normal_(self.compress.weight, std=INIT_STD, generator=generator)
            nn.init.normal_(self.position, std=POSITION_STD, generator=generator)
            for zero in (self.compress.bias, self.out.weight, self.out.bias):
                zero.zero_()

    @classmethod
    def build(cls, spec: TextToLatentModel, hidden_size: int, trm: TRM,
              generator: torch.Generator | None = None) -> Self:
        """Make the adapter that the spec names, between a language model of width `hidden_size` and `trm`."""
        return cls(mode=spec.mode, bottleneck=spec.bottleneck, hidden_size=hidden_size, positions=trm.num_positions,
                   width=trm.spec.hidden_size, generator=generator)

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_config` rebuilds the module."""
        return {"mode": self.mode, "bottleneck": self.bottleneck, "hidden_size": self.hidden_size,
                "positions": self.positions, "width": self.width}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild without weights. Raises ModelError when the configuration is of another version."""
        return _rebuild(cls, config)

    def deltas(self, hidden: Tensor) -> Tensor:
        """Return fp32 [B, S, 2 D] in carry mode, [B, S, D] in injection mode; zero before training."""
        if hidden.shape[-1] != self.hidden_size:
            raise ModelError(f"a hidden state is {hidden.shape[-1]} wide, the adapter was made for {self.hidden_size}",
                             "use the language model that the checkpoint was trained with")
        features = self.norm(F.gelu(self.compress(hidden.float())))
        # the activation after the sum lets text and position interact; a sum alone would shift all positions alike
        delta: Tensor = self.out(F.gelu(features[:, None] + self.position))
        return delta

    def forward(self, hidden: Tensor, trm: TRM) -> Injection:
        """Make the injection of hidden states [B, H] for `trm`, fp32."""
        if (trm.num_positions, trm.spec.hidden_size) != (self.positions, self.width):
            raise ModelError(f"the adapter writes {self.positions} positions of width {self.width}, the TRM has "
                             f"{trm.num_positions} of {trm.spec.hidden_size}", "the two are of different checkpoints")
        deltas = self.deltas(hidden)
        if self.mode == "injection":
            return Injection(term=bounded(deltas))
        delta_H, delta_L = deltas.chunk(2, dim=-1)
        return Injection(z_H=trm.H_init.float() + bounded(delta_H), z_L=trm.L_init.float() + bounded(delta_L))


class LatentToText(nn.Module):
    """Maps a final carry z_H, z_L [B, S, D] to k prefix embeddings [B, k, H]; the language model sets their norm."""

    def __init__(self, *, pooling: Literal["mean", "attention"], tokens: int, bottleneck: int, width: int,
                 hidden_size: int, generator: torch.Generator | None = None) -> None:
        """Build with fresh weights; `build` takes the sizes from a TRM and a language model."""
        super().__init__()
        self.pooling, self.tokens, self.bottleneck = pooling, tokens, bottleneck
        self.width, self.hidden_size = width, hidden_size
        self.pool_H, self.pool_L = (AttentionPool(width) if pooling == "attention" else MeanPool() for _ in range(2))
        self.compress = nn.Linear(2 * width, bottleneck)
        self.norm = nn.LayerNorm(bottleneck)
        self.out = nn.Linear(bottleneck, tokens * hidden_size)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.normal_(module.weight, std=INIT_STD, generator=generator)
                    module.bias.zero_()

    @classmethod
    def build(cls, spec: LatentToTextModel, hidden_size: int, trm: TRM,
              generator: torch.Generator | None = None) -> Self:
        """Make the adapter that the spec names, between `trm` and a language model of width `hidden_size`."""
        return cls(pooling=spec.pooling, tokens=spec.tokens, bottleneck=spec.bottleneck, width=trm.spec.hidden_size,
                   hidden_size=hidden_size, generator=generator)

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_config` rebuilds the module."""
        return {"pooling": self.pooling, "tokens": self.tokens, "bottleneck": self.bottleneck, "width": self.width,
                "hidden_size": self.hidden_size}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Rebuild without weights. Raises ModelError when the configuration is of another version."""
        return _rebuild(cls, config)

    def forward(self, z_H: Tensor, z_L: Tensor) -> Tensor:
        """Return fp32 [B, k, H]."""
        if z_H.shape[-1] != self.width:
            raise ModelError(f"a carry is {z_H.shape[-1]} wide, the adapter was made for {self.width}",
                             "the TRM and the adapter are of different checkpoints")
        pooled = torch.cat((self.pool_H(z_H.float()), self.pool_L(z_L.float())), dim=-1)
        flat: Tensor = self.out(self.norm(F.gelu(self.compress(pooled))))
        return flat.view(len(flat), self.tokens, self.hidden_size)


class MeanPool(nn.Module):
    """The mean over positions."""

    def forward(self, states: Tensor) -> Tensor:
        """[B, S, D] -> [B, D]."""
        return states.mean(dim=1)


class AttentionPool(nn.Module):
    """A weighted sum over positions; the weights are a softmax of Linear(D, D / 2) - Tanh - Linear(1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width // 2)
        self.score = nn.Linear(width // 2, 1)

    def weights(self, states: Tensor) -> Tensor:
        """[B, S, D] -> [B, S], each row sums to 1."""
        scores: Tensor = self.score(torch.tanh(self.hidden(states)))
        return scores.squeeze(-1).softmax(dim=-1)

    def forward(self, states: Tensor) -> Tensor:
        """[B, S, D] -> [B, D]."""
        return torch.einsum("bs,bsd->bd", self.weights(states), states)


def bounded(x: Tensor) -> Tensor:
    """Divide by sqrt(1 + mean square) over the last axis: x itself while it is small, unit RMS when it is large."""
    return x * torch.rsqrt(1 + x.square().mean(dim=-1, keepdim=True))


def _rebuild(cls: type[_Module], config: Mapping[str, Any]) -> _Module:
    try:
        return cls(**config)
    except TypeError as error:
        raise ModelError(f"the checkpoint's {cls.__name__} configuration does not fit this gridloom: {error}",
                         "use the gridloom version that wrote it, or train again") from error
