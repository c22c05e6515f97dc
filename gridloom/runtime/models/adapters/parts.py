"""Parts of the adapters: standardised states, pooling, the cross-attention bridge, and bounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.errors import ModelError

INIT_STD = 0.02
VARIANCE_FLOOR = 1e-4


class Standardise(nn.Module):
    """Standardisation of states per entry: (x - mean) / deviation; the identity until `fit`.

    States of different prompts are nearly parallel: for smollm2-135m at the last prompt position, the part that differs
    between tasks has a fifteenth of the norm. Without standardisation the input of an adapter is almost constant.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, states: Tensor) -> None:
        """Set mean and deviation from states [N, H]; only the mean from fewer than two states."""
        values = states.float()
        self.shift.copy_(values.mean(dim=0))
        if len(values) > 1:
            variance = values.var(dim=0, correction=0)
            # added to the variance: entries of small variance must not be amplified to the size of the others
            floor = VARIANCE_FLOOR + 0.01 * variance.mean()
            self.scale.copy_((variance + floor).rsqrt())

    def forward(self, states: Tensor) -> Tensor:
        """Standardise [..., H]."""
        return (states - self.shift) * self.scale


class MeanPool(nn.Module):
    """Mean over positions."""

    def forward(self, states: Tensor) -> Tensor:
        """Pool states [B, S, D] to [B, D]."""
        return states.mean(dim=1)


class AttentionPool(nn.Module):
    """Weighted sum over positions; the weights are a softmax of Linear(D, D / 2) - Tanh - Linear(1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width // 2)
        self.score = nn.Linear(width // 2, 1)

    def weights(self, states: Tensor) -> Tensor:
        """Return weights [B, S] of states [B, S, D]; each row sums to 1."""
        scores: Tensor = self.score(torch.tanh(self.hidden(states)))
        return scores.squeeze(-1).softmax(dim=-1)

    def forward(self, states: Tensor) -> Tensor:
        """Pool states [B, S, D] to [B, D]."""
        return torch.einsum("bs,bsd->bd", self.weights(states), states)


class CrossAttentionBridge(nn.Module):
    """Cross-attention blocks in which learned slots [S, W] attend to token states [B, T, H]: [B, S, W]."""

    def __init__(self, hidden_size: int, width: int, positions: int, layers: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ModelError(f"attention_heads {heads} does not divide the bottleneck {width}")
        self.states = nn.Linear(hidden_size, width)
        self.slots = nn.Parameter(torch.empty(positions, width))
        nn.init.normal_(self.slots, std=INIT_STD)
        self.blocks = nn.ModuleList([CrossAttentionBlock(width, heads) for _ in range(layers)])

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return [B, S, W] for states [B, T, H]; `mask` bool [B, T] is False on padding, which is not attended to."""
        keys = self.states(states)
        slots = self.slots.expand(len(states), -1, -1)
        for block in self.blocks:
            slots = block(slots, keys, mask)
        return slots


class CrossAttentionBlock(nn.Module):
    """Block: residual {norm both, multi-head cross attention}, residual {norm, Linear(4 W), GELU, Linear}."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_slots, self.norm_states, self.norm_inner = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key, self.value, self.merge = (nn.Linear(width, width) for _ in range(4))
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, slots: Tensor, states: Tensor, mask: Tensor | None) -> Tensor:
        """Map slots [B, S, W] and states [B, T, W] to slots [B, S, W]."""
        seen = self.norm_states(states)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(self.norm_slots(slots)), self.key(seen), self.value(seen))
        )
        visible = None if mask is None else mask[:, None, None].to(torch.bool)
        looked = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        slots = slots + self.merge(looked.transpose(1, 2).flatten(2))
        inner: Tensor = slots + self.narrow(F.gelu(self.widen(self.norm_inner(slots))))
        return inner


def bounded(x: Tensor) -> Tensor:
    """Divide by sqrt(1 + mean square) over the last axis: about x for small x, about unit RMS for large x."""
    return x * torch.rsqrt(1 + x.square().mean(dim=-1, keepdim=True))


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(0, 1)) of [B, W], summed over W and averaged over rows; at least 0."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1).mean()


def init_linears(module: nn.Module, generator: torch.Generator | None) -> None:
    """Initialise weights of Linear maps and learned slots from N(0, 0.02), biases with 0."""
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=INIT_STD, generator=generator)
                if part.bias is not None:
                    part.bias.zero_()
            elif isinstance(part, CrossAttentionBridge):
                nn.init.normal_(part.slots, std=INIT_STD, generator=generator)
