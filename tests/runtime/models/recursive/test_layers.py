"""Initial distributions, layouts and norms of the building blocks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from gridloom.runtime.models.recursive.fused import add_norm, gate, rotate
from gridloom.runtime.models.recursive.layers import (
    Attention,
    PuzzleEmbedding,
    Rope,
    ViewTokens,
    inner_width,
    line_angles,
    square_angles,
    truncated_normal,
)


def test_truncated_normal_has_the_wanted_deviation_and_bounds() -> None:
    sample = truncated_normal((400, 500), 0.3, generator=torch.Generator().manual_seed(0))
    assert float(sample.std()) == pytest.approx(0.3, rel=0.01)
    assert float(sample.mean()) == pytest.approx(0, abs=0.003)
    widened = 0.3 / math.sqrt(1 - 4 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
    assert float(sample.abs().max()) <= 2 * widened * (1 + 1e-6)
    assert float(sample.abs().max()) > 1.9 * widened


@pytest.mark.parametrize(("expansion", "width", "inner"), [(4, 512, 1536), (4, 97, 512), (4, 916, 2560), (2, 512, 768)])
def test_swiglu_inner_widths_equal_the_originals(expansion: float, width: int, inner: int) -> None:
    assert inner_width(expansion, width) == inner


def test_norm_is_computed_in_fp32() -> None:
    x = torch.full((1, 256), 100.0, dtype=torch.bfloat16)
    assert add_norm(x, x).dtype == torch.bfloat16
    assert torch.equal(add_norm(x, x), torch.ones_like(x))


def test_rope_depends_on_distance_only() -> None:
    rope = Rope(line_angles(8, 20))
    heads = torch.randn(1, 1, 3, 8).expand(1, 20, 3, 8)
    query, key, value = rotate(heads, rope.cos, rope.sin)
    assert torch.allclose(query[0, 3, 0] @ key[0, 7, 0], query[0, 12, 0] @ key[0, 16, 0], atol=1e-5)
    assert not torch.allclose(query[0, 3, 0] @ key[0, 7, 0], query[0, 3, 0] @ key[0, 8, 0], atol=1e-3)
    assert torch.equal(query[0, 0], heads[0, 0, :1])
    assert torch.equal(value, heads[:, :, 2:])


def test_square_rope_depends_on_rows_and_columns_between() -> None:
    canvas, prefix = 6, 2
    rope = Rope(square_angles(8, prefix, canvas))
    heads = torch.randn(1, 1, 3, 8).expand(1, prefix + canvas**2, 3, 8)
    query, key, _ = rotate(heads, rope.cos, rope.sin)

    def score(a: tuple[int, int], b: tuple[int, int]) -> torch.Tensor:
        return query[0, prefix + canvas * a[0] + a[1], 0] @ key[0, prefix + canvas * b[0] + b[1], 0]

    assert torch.allclose(score((0, 1), (2, 2)), score((3, 4), (5, 5)), atol=1e-5)
    # one row on is one thing, one column on another, though both are near
    assert not torch.allclose(score((1, 1), (2, 1)), score((1, 1), (1, 2)), atol=1e-3)
    # the last cell of a row and the first of the next are far apart, which a flat sequence does not show
    assert not torch.allclose(score((0, 5), (1, 0)), score((0, 4), (0, 5)), atol=1e-3)
    assert torch.equal(query[0, :prefix], heads[0, :prefix, :1])


def test_view_tokens_tell_turn_and_colours_apart() -> None:
    views = torch.tensor([[0, *range(10)], [3, *range(10)], [0, 0, 2, 1, *range(3, 10)]])
    tokens = torch.randn(12, 16)
    shown = ViewTokens(16, views)(torch.tensor([0, 1, 2]), tokens)
    assert shown.shape == (3, 10, 16)
    assert not torch.equal(shown[0, 0], shown[1, 0])
    assert torch.equal(shown[0, 1:], shown[1, 1:])
    colours = ViewTokens(16, views).colours.embedding_weight
    assert colours.shape == (9, 16)
    # where 1 and 2 are exchanged, colour 1 is encoded by the token of colour 2
    assert torch.allclose(shown[2, 1] - shown[0, 1], tokens[2 + 2] - tokens[2 + 1], atol=1e-6)
    assert torch.equal(shown[0, 3:], shown[2, 3:])


def test_hand_written_gradients_equal_numerical_ones() -> None:
    rope = Rope(line_angles(4, 3))
    x, y = (torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    heads = torch.randn(2, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    # fp32 inside: the numerical gradient is good to about 1e-3.
    assert gradcheck(add_norm, (x, y), eps=1e-2, atol=1e-2)
    assert gradcheck(gate, (x,))
    assert gradcheck(lambda h: rotate(h, rope.cos, rope.sin), (heads,), eps=1e-2, atol=1e-2)


def test_hand_written_functions_equal_their_composition() -> None:
    x, y = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 5, 8, requires_grad=True)
    pairs = [
        (add_norm(x, y), F.rms_norm(x + y, (8,), None, 1e-5)),
        (gate(x), F.silu(x[..., :4]) * x[..., 4:]),
    ]
    for found, wanted in pairs:
        assert torch.allclose(found, wanted, atol=1e-6)
        weights = torch.randn_like(found)
        gradients = [torch.autograd.grad(z, x, weights, retain_graph=True)[0] for z in (found, wanted)]
        assert torch.allclose(*gradients, atol=1e-5)


def test_projection_holds_queries_then_keys_then_values() -> None:
    attention = Attention(16, 2)
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        attention.qkv_proj.weight[:32].zero_()  # no queries, no keys: every position gets the mean of the values
        expected = (x @ attention.qkv_proj.weight[32:].T).mean(1, keepdim=True) @ attention.o_proj.weight.T
        assert torch.allclose(attention(x, None), expected.expand_as(x), atol=1e-5)


def test_puzzle_rows_are_leaves_in_training_only() -> None:
    table = PuzzleEmbedding(4, 8)
    assert table(torch.tensor([1, 2])).requires_grad
    assert not table.eval()(torch.tensor([1, 2])).requires_grad
    with torch.no_grad():
        assert not table.train()(torch.tensor([1, 2])).requires_grad
    assert not list(table.parameters())
