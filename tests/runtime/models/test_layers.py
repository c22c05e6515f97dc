"""Initial distributions, layouts and norms of the building blocks."""

from __future__ import annotations

import math

import pytest
import torch

from gridloom.runtime.models.layers import Attention, PuzzleEmbedding, Rope, inner_width, rms_norm, truncated_normal


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


def test_rms_norm_is_computed_in_fp32() -> None:
    x = torch.full((1, 256), 200.0, dtype=torch.bfloat16)
    assert rms_norm(x).dtype == torch.bfloat16
    assert torch.equal(rms_norm(x), torch.ones_like(x))


def test_rope_depends_on_distance_only() -> None:
    rope = Rope(8, 20)
    x = torch.randn(1, 1, 1, 8).expand(1, 20, 1, 8)
    y = torch.randn(1, 1, 1, 8).expand(1, 20, 1, 8)
    a, b = rope(x)[0, :, 0], rope(y)[0, :, 0]
    assert torch.allclose(a[3] @ b[7], a[12] @ b[16], atol=1e-5)
    assert not torch.allclose(a[3] @ b[7], a[3] @ b[8], atol=1e-3)
    assert torch.equal(a[0], x[0, 0, 0])


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
