"""Building blocks of the recursive networks: initialisation, norm, rotary positions, attention, SwiGLU, puzzle rows.

Shapes: B rows, S positions, D width, h heads, d = D / h. No layer has a learned gain, a bias, dropout or a mask.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.recursive.cost import inner_width
from gridloom.runtime.models.recursive.fused import add_norm, gate, rotate

ROPE_BASE = 10_000.0
ROPE_2D_BASE = 100.0
"""Base of the rotary frequencies per axis; rows and columns are below 30, so low frequencies are not needed."""


def truncated_normal(
    shape: Sequence[int], std: float, *, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Draw from a normal distribution truncated at two sigma and rescaled to the standard deviation `std`."""
    bound = math.erf(2 / math.sqrt(2))
    density = math.exp(-2.0) / math.sqrt(2 * math.pi)
    true_std = math.sqrt(1 - 4 * density / bound)
    sample = torch.empty(tuple(shape), dtype=torch.float32).uniform_(-bound, bound, generator=generator)
    sample = sample.erfinv_().mul_(math.sqrt(2)).clamp_(-2, 2)
    return sample.mul_(std / true_std).to(dtype)


class Linear(nn.Module):
    """Linear map with an fp32 matrix [out, in], rounded to the activation dtype on use; without bias by default.

    A CPU without bf16 instructions multiplies bf16 values one by one. On such a CPU the product is computed in fp32
    from the same rounded values with the same fp32 sums, and rounded at the end.
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = False, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        initial = truncated_normal((out_features, in_features), in_features**-0.5, generator=generator)
        self.weight = nn.Parameter(initial)
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None
        self.rounded: Tensor | None = None
        """Rounded weight, inside `rounded_once` or after `round_for_good`; else None."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out] in the dtype of `x`."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if x.dtype == self.weight.dtype:
            return F.linear(x, self.weight, bias)
        weight = round_weight(self.weight, x.dtype) if self.rounded is None else self.rounded
        if weight.dtype == x.dtype:
            return F.linear(x, weight, bias)
        return F.linear(x.float(), weight, None if bias is None else bias.float()).to(x.dtype)


MULTIPLIES_BF16 = platform.machine().lower() not in ("x86_64", "amd64") or bool(
    torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
)
"""Whether this CPU has instructions for products of bf16 values."""


def round_weight(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the weight rounded for products with activations of `dtype`."""
    if dtype == torch.bfloat16 and weight.device.type == "cpu" and not MULTIPLIES_BF16:
        wide: Tensor = _Round.apply(weight)  # type: ignore[no-untyped-call]
        return wide
    return weight.to(dtype)


class _Round(torch.autograd.Function):
    """Round fp32 to bf16 values, stored as fp32; the gradient passes unchanged, summed in fp32 over all uses."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return weight.bfloat16().float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


@contextmanager
def rounded_once(network: nn.Module) -> Iterator[None]:
    """Round the weights of the linear maps once for all uses inside the context, if no gradient changes.

    With gradient, only weights stored as fp32 are cached: sums over the uses must not be rounded to bf16.
    """
    dtype = network.dtype
    assert isinstance(dtype, torch.dtype)
    held = []
    for module in network.modules():
        if isinstance(module, Linear) and module.rounded is None and module.weight.dtype != dtype:
            rounded = round_weight(module.weight, dtype)
            if rounded.dtype == torch.float32 or not torch.is_grad_enabled():
                module.rounded = rounded
                held.append(module)
    try:
        yield
    finally:
        for module in held:
            module.rounded = None


@torch.no_grad()
def round_for_good(network: nn.Module) -> None:
    """Round the weights of the linear maps in place, for a network that is neither trained further nor saved.

    Outputs are bit-identical, and no second copy of the weights is held while the network runs.
    """
    dtype = network.dtype
    assert isinstance(dtype, torch.dtype)
    for module in network.modules():
        if isinstance(module, Linear) and module.weight.dtype != dtype:
            module.weight.data = round_weight(module.weight, dtype)
            module.rounded = module.weight.data


class Embedding(nn.Module):
    """Table [rows, D] in fp32 with standard deviation 1 / sqrt(D)."""

    def __init__(self, rows: int, width: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.embedding_weight = nn.Parameter(truncated_normal((rows, width), width**-0.5, generator=generator))

    def forward(self, ids: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the rows of ids [...] as [..., D] in `dtype`."""
        return F.embedding(ids, self.embedding_weight.to(dtype))


class SwiGLU(nn.Module):
    """down(silu(gate) * up) over the last dimension; gate is the first half of `gate_up_proj`."""

    def __init__(self, width: int, expansion: float, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        inner = inner_width(expansion, width)
        self.gate_up_proj = Linear(width, 2 * inner, generator=generator)
        self.down_proj = Linear(inner, width, generator=generator)

    def forward(self, x: Tensor, gating: Callable[[Tensor], Tensor] = gate) -> Tensor:
        """Map [..., width] to the same shape."""
        result: Tensor = self.down_proj(gating(self.gate_up_proj(x)))
        return result


class Rope(nn.Module):
    """Rotary tables fp32 [S, 1, d], half-split convention; the first half of `sin` is negated."""

    cos: Tensor
    sin: Tensor

    def __init__(self, angles: Tensor) -> None:
        """Compute the tables of fp32 `angles` [S, d / 2]."""
        super().__init__()
        self.register_buffer("cos", angles.cos().repeat(1, 2)[:, None], persistent=False)
        self.register_buffer("sin", torch.cat((-angles.sin(), angles.sin()), dim=-1)[:, None], persistent=False)

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin of a sequence of the length that the tables were made for."""
        return self.cos, self.sin

    def rotate(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split [B, S, 3h, d] into q, k, v of h heads each, and rotate q and k."""
        return rotate(heads, *self.tables(heads.shape[1]))

    def add_norm(self, x: Tensor, change: Tensor) -> Tensor:
        """Return rms(x + change)."""
        return add_norm(x, change)

    def gate(self, gate_up: Tensor) -> Tensor:
        """Return silu(first half) * second half of the last dimension."""
        return gate(gate_up)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend over all positions: q, k, v [B, S, h, d] to [B, S, h, d]."""
        return attend(query, key, value)

    def first_of(self, state: Tensor) -> Tensor:
        """Return position 0 of each row of a state [B, S, D]: [B, D]."""
        return state[:, 0]

    def cells_of(self, state: Tensor, prefix_len: int) -> Tensor:
        """Return the positions of a state [B, S, D] behind the prefix: [B, L, D]."""
        return state[:, prefix_len:]


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k / sqrt(d)) v over the S positions: [B, S, h, d] to [B, S, h, d]."""
    mixed = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return mixed.transpose(1, 2)


class SquareRope(Rope):
    """Rotary tables of a prefix and the cells of a square canvas; tables of other canvases are computed as needed."""

    def __init__(self, head_width: int, prefix_len: int, canvas: int) -> None:
        super().__init__(square_angles(head_width, prefix_len, canvas))
        self.head_width, self.prefix_len = head_width, prefix_len
        self._others: dict[tuple[int, torch.device], Rope] = {}

    def tables(self, length: int) -> tuple[Tensor, Tensor]:
        """Return cos and sin of a prefix and a canvas with `length` positions in total."""
        if length == len(self.cos):
            return self.cos, self.sin
        key = length, self.cos.device
        if key not in self._others:
            side = math.isqrt(length - self.prefix_len)
            self._others[key] = Rope(square_angles(self.head_width, self.prefix_len, side)).to(self.cos.device)
        return self._others[key].cos, self._others[key].sin


def line_angles(head_width: int, num_positions: int) -> Tensor:
    """Return angles fp32 [S, d / 2] over the flat sequence, base 10,000: the original's rotary positions."""
    frequencies = ROPE_BASE ** (-torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    return torch.outer(torch.arange(num_positions, dtype=torch.float32), frequencies)


def square_angles(head_width: int, prefix_len: int, canvas: int) -> Tensor:
    """Return angles fp32 [S, d / 2]: the first half of the pairs by row, the second by column; 0 for the prefix.

    Two-axis rotary positions as in RoFormer's extension to images (arXiv 2403.13298, axial form).
    """
    half = head_width // 4
    frequencies = ROPE_2D_BASE ** (-torch.arange(half, dtype=torch.float32) / half)
    steps = torch.arange(canvas, dtype=torch.float32)
    rows = torch.outer(steps.repeat_interleave(canvas), frequencies)
    columns = torch.outer(steps.repeat(canvas), frequencies)
    cells = torch.cat((rows, columns), dim=1)
    return torch.cat((torch.zeros(prefix_len, 2 * half), cells))


class Attention(nn.Module):
    """Unmasked multi-head self-attention; the output of the projection is h heads of q, then of k, then of v."""

    def __init__(self, width: int, num_heads: int, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.num_heads, self.head_width = num_heads, width // num_heads
        inner = num_heads * self.head_width
        self.qkv_proj = Linear(width, 3 * inner, generator=generator)
        self.o_proj = Linear(inner, width, generator=generator)

    def forward(self, x: Tensor, rope: Rope | None) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        batch, length, _ = x.shape
        heads = self.qkv_proj(x).view(batch, length, 3 * self.num_heads, self.head_width)
        mixed = attend(*heads.chunk(3, dim=2)) if rope is None else rope.mix(*rope.rotate(heads))
        result: Tensor = self.o_proj(mixed.flatten(2))
        return result


class Block(nn.Module):
    """Post-norm block: u = rms(u + mix(u)); u = rms(u + swiglu(u)).

    With `mixing` 'mlp' the first sublayer is a SwiGLU over positions, normalised over positions for each channel.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        expansion: float,
        num_positions: int,
        mixing: str,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(width, num_heads, generator=generator) if mixing == "attention" else None
        self.mlp_t = SwiGLU(num_positions, expansion, generator=generator) if mixing == "mlp" else None
        self.mlp = SwiGLU(width, expansion, generator=generator)

    def forward(self, x: Tensor, rope: Rope | None) -> Tensor:
        """Map [B, S, D] to [B, S, D]."""
        norm, gating = (add_norm, gate) if rope is None else (rope.add_norm, rope.gate)
        if self.self_attn is not None:
            x = norm(x, self.self_attn(x, rope))
        elif self.mlp_t is not None:
            turned = x.transpose(1, 2)
            x = add_norm(turned, self.mlp_t(turned)).transpose(1, 2)
        return norm(x, self.mlp(x, gating))


class Stack(nn.Module):
    """Shared function f(state, inject): the blocks in order, applied to the sum of the two."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(blocks)

    def forward(self, state: Tensor, inject: Tensor | None, rope: Rope | None) -> Tensor:
        """Map state and injection [B, S, D] to the next state [B, S, D]."""
        if inject is not None:
            state = state + inject
        for block in self.layers:
            state = block(state, rope)
        return state


class ViewTokens(nn.Module):
    """Embedding of a view in ten tokens: its dihedral transform, and for each colour 1-9 the colour shown in its place.

    A colour's token is the embedding of the shown colour's token plus a learned row of the original colour, so that a
    rule on red can look up the colour that represents red in the view.
    """

    views: Tensor

    def __init__(self, width: int, views: Tensor, *, generator: torch.Generator | None = None) -> None:
        """Args: views: uint8 [R, 11], per puzzle id the dihedral transform 0-7 and the image of each colour 0-9."""
        super().__init__()
        self.turns = Embedding(8, width, generator=generator)
        self.colours = Embedding(9, width, generator=generator)
        self.register_buffer("views", views.to(torch.uint8), persistent=False)

    def forward(self, ids: Tensor, tokens: Tensor) -> Tensor:
        """Map ids [B] and the token table [V, D], colour c in row 2 + c, to [B, 10, D] in the table's dtype."""
        view = self.views[ids].to(torch.int32)
        turn = self.turns(view[:, :1], tokens.dtype)
        shown = F.embedding(view[:, 2:] + 2, tokens)
        return torch.cat((turn, shown + self.colours.embedding_weight.to(tokens.dtype)), dim=1)


class PuzzleEmbedding(nn.Module):
    """Learned row per puzzle id (a task under a view) plus a row per task, fp32, initially zero.

    The tables are buffers: they have an optimiser of their own, are not averaged, and only rows in a batch are updated.
    Without `task_of` there is no task table, as in the original; without `per_id` there is the task table alone.
    """

    weights: Tensor
    """[R, D], a row per id; [0, D] without `per_id`."""
    task_weights: Tensor | None
    task_of: Tensor | None

    def __init__(self, num_puzzles: int, width: int, task_of: Tensor | None = None, *, per_id: bool = True) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(num_puzzles if per_id else 0, width))
        num_tasks = 0 if task_of is None else int(task_of.max()) + 1
        self.register_buffer("task_weights", torch.zeros(num_tasks, width) if num_tasks else None)
        self.register_buffer("task_of", None if task_of is None else task_of.to(torch.int64))

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of ids [B], fp32 [B, D]; in training a leaf tensor whose gradient the row optimiser reads."""
        rows = self.weights[ids] if len(self.weights) else self.weights.new_zeros(len(ids), self.weights.shape[1])
        if self.task_weights is not None and self.task_of is not None:
            rows = rows + self.task_weights[self.task_of[ids]]
        return rows.requires_grad_(self.training and torch.is_grad_enabled())
