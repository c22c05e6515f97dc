"""Layers of the engine: attention with shared key-value heads, masks and partial rotary positions; stacks; norms.

Shapes: B rows, S positions, D width, h query heads, g key-value heads, d = D / h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gridloom.runtime.models.engine.layout import Layout
from gridloom.runtime.models.engine.tape import Tape, query_mask
from gridloom.runtime.models.recursive.fused import add_norm, rotate
from gridloom.runtime.models.recursive.layers import Linear, Rope, SwiGLU, truncated_normal

SLOT_STD = 1.0
"""Standard deviation of the learned slots of patches, capsules and answers, that of the states. The encoder's states of
equal patches are alike (cosine 0.9 at the start), and rotary positions do not relate an answer to a place in the image:
without slots a drawn row of 16 cells was not copied after 150 steps, with them it is after 75."""


class Place(NamedTuple):
    """Where the positions of a call stand, and which see which."""

    cos: Tensor | None = None
    """fp32 [S, 1, d]; None without rotary positions."""
    sin: Tensor | None = None
    """fp32 [S, 1, d], its first half negated."""
    mask: Tensor | None = None
    """bool [.., S, S], True where a query may read a key, or an additive bias; None if all read all. With a tape that
    no longer records: bool [B, pooled], open source slots."""
    tape: Tape | None = None
    """Key-value cache of a decoding."""


def rope_tables(rope: Rope | None, first: int, last: int) -> tuple[Tensor | None, Tensor | None]:
    """Return cos and sin of the positions first..last of a table."""
    return (None, None) if rope is None else (rope.cos[first:last], rope.sin[first:last])


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate [B, S, heads, d] by tables [S, 1, d] in fp32."""
    y = x.float()
    return torch.addcmul(y * cos, y.roll(y.shape[-1] // 2, dims=-1), sin).to(x.dtype)


class GroupedAttention(nn.Module):
    """Self-attention whose key and value heads each serve h / g query heads (arXiv 2305.13245).

    The projection's output is h heads of q, g of k, g of v; with g = h weights and values equal those of the TRM.
    """

    def __init__(self, width: int, num_heads: int, kv_heads: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.num_heads, self.kv_heads, self.head_width = num_heads, kv_heads, width // num_heads
        inner = num_heads * self.head_width
        self.qkv_proj = Linear(width, inner + 2 * kv_heads * self.head_width, generator=generator)
        self.o_proj = Linear(inner, width, generator=generator)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        batch, length, _ = x.shape
        h, g = self.num_heads, self.kv_heads
        heads = self.qkv_proj(x).view(batch, length, h + 2 * g, self.head_width)
        if place.cos is not None and place.sin is not None and g == h:
            query, key, value = rotate(heads, place.cos, place.sin)
        else:
            value = heads[:, :, h + g :]
            turned = heads[:, :, : h + g]
            if place.cos is not None and place.sin is not None:
                turned = turn(turned, place.cos, place.sin)
            query, key = turned[:, :, :h], turned[:, :, h:]
        mask = place.mask
        if place.tape is not None:
            key, value = place.tape.extend(key, value)
            if not place.tape.recording:
                mask = query_mask(mask, key.shape[1])
        if g < h:
            key, value = (part.repeat_interleave(h // g, dim=2) for part in (key, value))
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(x.dtype)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        result: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return result


class EngineBlock(nn.Module):
    """Post-norm block of the TRM with grouped attention: u = rms(u + attend(u)); u = rms(u + swiglu(u))."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        kv_heads: int,
        expansion: float,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.self_attn = GroupedAttention(width, num_heads, kv_heads, generator=generator)
        self.mlp = SwiGLU(width, expansion, generator=generator)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        x = add_norm(x, self.self_attn(x, place))
        return add_norm(x, self.mlp(x))


class EngineStack(nn.Module):
    """Shared function f(state, inject) of blocks; activations are recomputed in the backward pass with `recompute`."""

    def __init__(self, blocks: Sequence[EngineBlock], recompute: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)
        self.recompute = recompute

    def forward(self, state: Tensor, inject: Tensor, place: Place) -> Tensor:
        """Map state and injection [B, S, D] to the next state [B, S, D]."""
        total = state + inject
        if self.recompute and torch.is_grad_enabled():
            result: Tensor = checkpoint(self._blocks, total, place, use_reentrant=False, preserve_rng_state=False)
            return result
        return self._blocks(total, place)

    def _blocks(self, state: Tensor, place: Place) -> Tensor:
        for block in self.layers:
            state = block(state, place)
        return state


class LayerNorm(nn.Module):
    """Layer norm with gain and shift in fp32, result in the dtype of its input."""

    def __init__(self, width: int, *, gain: float = 1.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), gain))
        self.bias = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.layer_norm(x.float(), (x.shape[-1],), self.weight, self.bias, self.eps).to(x.dtype)


def dense(width: int, outputs: int, generator: torch.Generator | None, *, zero: bool = False) -> nn.Linear:
    """Return a map with bias that runs in fp32, for scores and distances; weights zero with `zero`."""
    layer = nn.Linear(width, outputs)
    with torch.no_grad():
        layer.bias.zero_()
        layer.weight.copy_(
            torch.zeros(outputs, width)
            if zero
            else truncated_normal((outputs, width), width**-0.5, generator=generator)
        )
    return layer


def prefix_mask(layout: Layout) -> Tensor | None:
    """Return bool [S, S], True where the query may read the key; None if every position reads all.

    Prefix and source read each other; an answer reads them, itself and the answers before it.
    """
    if not layout.causal:
        return None
    order = torch.arange(layout.positions)
    answer = order >= layout.first_answer
    return ~answer[None] | (answer[:, None] & (order[None] <= order[:, None]))


def rms(x: Tensor) -> Tensor:
    """Scale the last dimension to unit RMS in fp32."""
    y = x.float()
    return (y * (y.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()).to(x.dtype)


def masked_mean(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the fp32 mean [B, D] of [B, S, D] over positions, of those with `valid` bool [B, S] alone."""
    if valid is None:
        return x.float().mean(dim=1)
    weights = valid.float()[..., None]
    return (x.float() * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
