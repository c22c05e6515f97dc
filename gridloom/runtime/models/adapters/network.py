"""Adapters between a language model and a TRM: hidden states -> latent, and carry -> prefix embeddings.

Shapes: B rows, T token states, H the language model's width, S = prefix + canvas * canvas positions and D the width of
the TRM, W the bottleneck, k prefix embeddings. Adapters are fp32; the TRM or the language model casts their outputs.
Output layers towards the TRM are initialised to zero, so that the hybrid starts as the plain TRM, and their outputs are
bounded to the range of the TRM's unit-RMS states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError
from gridloom.runtime.models.adapters.parts import (
    AttentionPool,
    CrossAttentionBridge,
    MeanPool,
    Standardise,
    bounded,
    init_linears,
    kl_divergence,
)
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.kind import refuse_problems
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.trm import TRM

Mode = Literal["carry", "injection", "cross_attention"]

POSITION_STD = 0.5
"""Standard deviation of position features; a fifth of the initial variance, beside features of unit variance."""

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Injected:
    """Result of `TextToLatent.inject`."""

    injection: Injection
    kl: Tensor
    """fp32 scalar: mean over rows of KL(q || N(0, 1)); 0 for an adapter that is not variational."""


class TextToLatent(nn.Module):
    """Adapter from hidden states to the TRM's initial carry, or to a term of the TRM's input embedding.

    `carry` and `injection` read one state [B, H]; `cross_attention` reads states [B, T, H], of which the last is the
    same state, and sets the carry. A `linear` projection is one matrix for all positions (the z_init hybrid); otherwise
    the state is compressed to the bottleneck and added to a table of positions.
    """

    def __init__(
        self,
        *,
        mode: Mode,
        bottleneck: int,
        hidden_size: int,
        positions: int,
        width: int,
        projection: Literal["bottleneck", "linear"] = "bottleneck",
        variational: bool = False,
        attention_layers: int = 2,
        attention_heads: int = 8,
        sequence_tokens: int = 256,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build with fresh weights; see `build` for sizes from a language model and a TRM."""
        super().__init__()
        self._config = {
            "mode": mode,
            "bottleneck": bottleneck,
            "hidden_size": hidden_size,
            "positions": positions,
            "width": width,
            "projection": projection,
            "variational": variational,
            "attention_layers": attention_layers,
            "attention_heads": attention_heads,
            "sequence_tokens": sequence_tokens,
        }
        self.mode, self.projection, self.variational = mode, projection, variational
        self.hidden_size, self.positions, self.width = hidden_size, positions, width
        self.num_states = sequence_tokens if mode == "cross_attention" else 1
        self.standardise = Standardise(hidden_size)
        outputs = width if mode == "injection" else 2 * width
        if projection == "linear":
            self.out = nn.Linear(hidden_size, outputs, bias=False)
            with torch.no_grad():
                self.out.weight.zero_()
            return
        self.compress = nn.Linear(hidden_size, bottleneck)
        self.spread = nn.Linear(hidden_size, bottleneck) if variational else None
        self.norm = None if variational else nn.LayerNorm(bottleneck)
        self.bridge = (
            CrossAttentionBridge(hidden_size, bottleneck, positions, attention_layers, attention_heads)
            if mode == "cross_attention"
            else None
        )
        self.position = nn.Parameter(torch.empty(positions, bottleneck))
        self.out = nn.Linear(bottleneck, outputs)
        init_linears(self, generator)
        with torch.no_grad():
            nn.init.normal_(self.position, std=POSITION_STD, generator=generator)
            self.out.weight.zero_()

    @classmethod
    def build(
        cls, spec: TextToLatentModel, hidden_size: int, network: TRM, generator: torch.Generator | None = None
    ) -> Self:
        """Build the adapter of the spec between a language model of width `hidden_size` and `network`."""
        refuse_problems(spec)
        return cls(
            mode=spec.mode,
            bottleneck=spec.bottleneck,
            hidden_size=hidden_size,
            positions=network.num_positions,
            width=network.spec.hidden_size,
            projection=spec.projection,
            variational=spec.variational,
            attention_layers=spec.attention_layers,
            attention_heads=spec.attention_heads,
            sequence_tokens=spec.sequence_tokens,
            generator=generator,
        )

    def config(self) -> dict[str, Any]:
        """Return the JSON values from which `from_config` rebuilds the module."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the module of a configuration with fresh weights. Raises ModelError for one that does not fit."""
        return _rebuild(cls, config)

    @property
    def reads_sequence(self) -> bool:
        """Whether the adapter reads token states [B, T, H] rather than one state [B, H]."""
        return self.mode == "cross_attention"

    def forward(self, hidden: Tensor, network: TRM, mask: Tensor | None = None) -> Injection:
        """Return the fp32 injection of hidden states [B, H] or [B, T, H] for `network`, without sampling."""
        return self.inject(hidden, network, mask).injection

    def inject(
        self, hidden: Tensor, network: TRM, mask: Tensor | None = None, generator: torch.Generator | None = None
    ) -> Injected:
        """Return the injection; a variational adapter samples with `generator`, and uses the mean without.

        Args:
            hidden: [B, H], or [B, T, H] left-padded for `cross_attention`.
            mask: bool [B, T], False on padding; None if there is no padding.
        """
        if (network.num_positions, network.spec.hidden_size) != (self.positions, self.width):
            raise ModelError(
                f"the adapter writes {self.positions} positions of width {self.width}, the TRM has "
                f"{network.num_positions} of {network.spec.hidden_size}",
                "use adapter and TRM of one checkpoint",
            )
        deltas, kl = self._deltas(hidden, mask, generator)
        if self.mode == "injection":
            return Injected(Injection(term=bounded(deltas)), kl)
        delta_H, delta_L = deltas.chunk(2, dim=-1)
        z_H, z_L = network.H_init.float() + bounded(delta_H), network.L_init.float() + bounded(delta_L)
        return Injected(Injection(z_H=z_H, z_L=z_L), kl)

    def deltas(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return fp32 [B, S, 2 D], or [B, S, D] in injection mode; zero before training."""
        return self._deltas(hidden, mask, None)[0]

    def _deltas(self, hidden: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        if hidden.shape[-1] != self.hidden_size:
            raise ModelError(
                f"a hidden state is {hidden.shape[-1]} wide, the adapter was made for {self.hidden_size}",
                "use the language model that the checkpoint was trained with",
            )
        if hidden.dim() != (3 if self.reads_sequence else 2):
            raise ModelError(
                f"a {self.mode} adapter reads {'token states' if self.reads_sequence else 'one state'} a "
                f"row, not a tensor of shape {list(hidden.shape)}"
            )
        states = self.standardise(hidden.float())
        state, kl = states[:, -1] if self.reads_sequence else states, states.new_zeros(())
        if self.projection == "linear":
            return self.out(state)[:, None].expand(-1, self.positions, -1), kl
        features = self.compress(state)
        if self.spread is not None:
            log_variance = self.spread(state).clamp(-10, 10)
            kl = kl_divergence(features, log_variance)
            if generator is not None:
                noise = torch.randn(features.shape, generator=generator).to(features.device)
                features = features + noise * (0.5 * log_variance).exp()
        elif self.norm is not None:
            features = self.norm(F.gelu(features))
        placed = features[:, None] + self.position
        if self.bridge is not None:
            placed = placed + self.bridge(states, mask)
        # the activation after the sum makes text and position interact; a sum alone would shift all positions equally
        return self.out(F.gelu(placed)), kl


class LatentToText(nn.Module):
    """Adapter from a final carry z_H, z_L [B, S, D] to k prefix embeddings [B, k, H]; `Llama` sets their norm."""

    def __init__(
        self,
        *,
        pooling: Literal["mean", "attention"],
        tokens: int,
        bottleneck: int,
        width: int,
        hidden_size: int,
        variational: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build with fresh weights; see `build` for sizes from a TRM and a language model."""
        super().__init__()
        self._config = {
            "pooling": pooling,
            "tokens": tokens,
            "bottleneck": bottleneck,
            "width": width,
            "hidden_size": hidden_size,
            "variational": variational,
        }
        self.tokens, self.width, self.hidden_size, self.variational = tokens, width, hidden_size, variational
        self.pool_H, self.pool_L = (AttentionPool(width) if pooling == "attention" else MeanPool() for _ in range(2))
        # the decoder of the variational pair has one more layer
        self.inner = (
            nn.Sequential(nn.Linear(2 * width, bottleneck // 2), nn.GELU(), nn.LayerNorm(bottleneck // 2))
            if variational
            else nn.Identity()
        )
        self.compress = nn.Linear(bottleneck // 2 if variational else 2 * width, bottleneck)
        self.norm = nn.LayerNorm(bottleneck)
        self.out = nn.Linear(bottleneck, tokens * hidden_size)
        init_linears(self, generator)

    @classmethod
    def build(
        cls, spec: LatentToTextModel, hidden_size: int, network: TRM, generator: torch.Generator | None = None
    ) -> Self:
        """Build the adapter of the spec between `network` and a language model of width `hidden_size`."""
        return cls(
            pooling=spec.pooling,
            tokens=spec.tokens,
            bottleneck=spec.bottleneck,
            width=network.spec.hidden_size,
            hidden_size=hidden_size,
            variational=spec.variational,
            generator=generator,
        )

    def config(self) -> dict[str, Any]:
        """Return the JSON values from which `from_config` rebuilds the module."""
        return dict(self._config)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the module of a configuration with fresh weights. Raises ModelError for one that does not fit."""
        return _rebuild(cls, config)

    def forward(self, z_H: Tensor, z_L: Tensor) -> Tensor:
        """Return fp32 [B, k, H]."""
        if z_H.shape[-1] != self.width:
            raise ModelError(
                f"a carry is {z_H.shape[-1]} wide, the adapter was made for {self.width}",
                "use TRM and adapter of one checkpoint",
            )
        pooled = torch.cat((self.pool_H(z_H.float()), self.pool_L(z_L.float())), dim=-1)
        flat: Tensor = self.out(self.norm(F.gelu(self.compress(self.inner(pooled)))))
        return flat.view(len(flat), self.tokens, self.hidden_size)


def _rebuild(cls: type[_Module], config: Mapping[str, Any]) -> _Module:
    try:
        return cls(**config)
    except TypeError as error:
        raise ModelError(
            f"the checkpoint's {cls.__name__} configuration does not fit this gridloom: {error}",
            "use the gridloom version that wrote it, or train again",
        ) from error
