"""Attention within packed rows: groups of rows of one length, or one kernel for rows of unlike length on a GPU.

On a CPU the backward pass of the flash kernel takes 3 to 10 times as long as the products themselves in bf16 on rows of
up to a few hundred tokens (benchmarks/NOTES.md), so the gradient is taken here, by plain products of each group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.recursive.layers import MULTIPLIES_BF16


class Group(NamedTuple):
    """Neighbouring rows of one length."""

    rows: int
    length: int
    """Tokens of each row."""


SCORES = 1 << 22
"""Attention scores that the gradient of a group holds at once on a CPU: more rows are taken in turn."""


def mix_by_groups(query: Tensor, key: Tensor, value: Tensor, groups: Sequence[Group]) -> Tensor:
    """Return softmax(q k / sqrt(d)) v within each row: [N, h, d] to [N, h, d], the rows being those of the groups."""
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and torch.is_grad_enabled():
        mixed: Tensor = _Mix.apply(query, key, value, groups)  # type: ignore[no-untyped-call]
        return mixed
    sizes = [group.rows * group.length for group in groups]
    parts = zip(*(torch.split(t, sizes) for t in (query, key, value)), groups, strict=True)
    return torch.cat([_forward(q, k, v, group) for q, k, v, group in parts])


def mix_by_bounds(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int) -> Tensor:
    """Attend within the rows between `ends`, int32 [A + 1], by one kernel for rows of unlike length, in half precision
    on a GPU: [N, h, d] to [N, h, d]."""
    from torch.nn.attention.varlen import varlen_attn

    mixed = varlen_attn(query.contiguous(), key.contiguous(), value.contiguous(), ends, ends, longest, longest)
    assert isinstance(mixed, Tensor), "no log-sum-exp was asked for"
    return mixed


def _forward(query: Tensor, key: Tensor, value: Tensor, group: Group) -> Tensor:
    q, k, v = (t.view(group.rows, group.length, *t.shape[1:]).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)


def _parts(groups: Sequence[Group], heads: int) -> Iterator[tuple[slice, Group]]:
    """Yield tokens and rows of parts of the groups, of `SCORES` attention scores at most, or of one row."""
    start = 0
    for group in groups:
        most = max(1, SCORES // (heads * group.length**2))
        for first in range(0, group.rows, most):
            part = Group(min(most, group.rows - first), group.length)
            end = start + part.rows * part.length
            yield slice(start, end), part
            start = end


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, groups: Sequence[Group]) -> Tensor:
        mixed = torch.empty(query.shape, dtype=query.dtype)
        start = 0
        for group in groups:
            at = slice(start, start + group.rows * group.length)
            mixed[at] = _forward(query[at], key[at], value[at], group)
            start = at.stop
        ctx.save_for_backward(query, key, value, mixed)
        ctx.groups = groups
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, mixed = ctx.saved_tensors
        heads, width = query.shape[1:]
        scale = 1 / math.sqrt(width)
        dtype = query.dtype if MULTIPLIES_BF16 else torch.float32
        back = torch.empty((len(query), 3, heads, width), dtype=query.dtype)
        for at, group in _parts(ctx.groups, heads):

            def rows(tensor: Tensor, at: slice = at, group: Group = group) -> Tensor:
                part = tensor[at].reshape(group.rows, group.length, heads, width).transpose(1, 2)
                return part.to(dtype).reshape(-1, group.length, width)

            q, k, v, o, d_o = (rows(t) for t in (query, key, value, mixed, gradients[0]))
            # P = softmax(q k'); dv = P' do; dS = P (do v' - <do, o>); dq = dS k; dk = dS' q
            p = torch.softmax(torch.bmm(q, k.transpose(1, 2)).mul_(scale), dim=-1)
            d_v = torch.bmm(p.transpose(1, 2), d_o)
            along = (d_o.float() * o.float()).sum(dim=-1, keepdim=True).to(dtype)
            d_s = torch.bmm(d_o, v.transpose(1, 2)).sub_(along).mul_(p).mul_(scale)
            found = torch.bmm(d_s, k), torch.bmm(d_s.transpose(1, 2), q), d_v
            for number, part in enumerate(found):
                turned = part.view(group.rows, heads, group.length, width).transpose(1, 2)
                back[at, number] = turned.reshape(-1, heads, width)
        return back[:, 0], back[:, 1], back[:, 2], None
