"""Intrinsic bonuses for states that were seen seldom, in training alone.

count: beta / sqrt(N + 1), N the visits of the state's hash: signs of 32 fixed projections, folded to 16 bits
       (arXiv 1611.04717)
RND:   |f(s) - g(s)|^2 / running standard deviation, g a fixed random network, f trained by the same error
       (arXiv 1810.12894)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gridloom.runtime.models.engine.layers import dense

BITS, TABLE = 32, 1 << 16
WIDTH = 128
SEED = 3
SPREAD = 0x9E3779B1


class CountBonus(nn.Module):
    """Visits of states by hash."""

    projection: Tensor
    """fp32 [F, 32]"""
    counts: Tensor
    """int64 [65,536]"""

    def __init__(self, features: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        generator = torch.Generator().manual_seed(SEED)
        self.register_buffer("projection", torch.randn(features, BITS, generator=generator))
        self.register_buffer("counts", torch.zeros(TABLE, dtype=torch.int64))

    @torch.no_grad()
    def forward(self, state: Tensor, chosen: Tensor) -> Tensor:
        """Count the states [B, F] with `chosen` bool [B], and return their bonus from the visits before, fp32 [B]."""
        bits = (state.float() @ self.projection > 0).long()
        powers = 1 << torch.arange(BITS, device=state.device)
        code = (bits * powers).sum(dim=1)
        # multiplied first: a mere fold would give a state and its opposite one slot
        slot = (code * SPREAD >> 16) % TABLE
        bonus = self.beta / (self.counts[slot].float() + 1).sqrt()
        self.counts.index_add_(0, slot, chosen.long())
        return torch.where(chosen, bonus, 0.0)


class DistillationBonus(nn.Module):
    """Random network distillation."""

    variance: Tensor
    """fp32 scalar, running mean square of the errors."""

    def __init__(self, features: int, weight: float, generator: torch.Generator | None) -> None:
        super().__init__()
        self.weight = weight
        self.predictor = _three_layers(features, generator)
        fixed = _three_layers(features, torch.Generator().manual_seed(SEED))
        for name, parameter in fixed.named_parameters():
            self.register_buffer(f"fixed_{name.replace('.', '_')}", parameter.detach().clone())
        self.register_buffer("variance", torch.ones(()))

    def forward(self, state: Tensor) -> Tensor:
        """Return the squared error of the prediction, fp32 [B], whose gradient trains the predictor alone."""
        x = state.detach().float()
        wanted = x
        for layer in (0, 2, 4):
            weight, bias = (self.get_buffer(f"fixed_{layer}_{part}") for part in ("weight", "bias"))
            wanted = nn.functional.linear(wanted, weight, bias)
            wanted = wanted.relu() if layer < 4 else wanted
        error: Tensor = (self.predictor(x) - wanted).square().mean(dim=1)
        return error

    @torch.no_grad()
    def bonus(self, error: Tensor, chosen: Tensor) -> Tensor:
        """Return the bonus fp32 [B] of errors, in units of their running scale."""
        count = chosen.sum().clamp(min=1)
        self.variance.lerp_(torch.where(chosen, error.square(), 0.0).sum() / count, 0.01)
        return torch.where(chosen, self.weight * error / (self.variance.sqrt() + 1e-8), 0.0)


def _three_layers(features: int, generator: torch.Generator | None) -> nn.Sequential:
    return nn.Sequential(
        dense(features, WIDTH, generator), nn.ReLU(), dense(WIDTH, WIDTH, generator), nn.ReLU(),
        dense(WIDTH, WIDTH, generator),
    )  # fmt: skip
