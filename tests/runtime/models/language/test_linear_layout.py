"""Matrices laid out for products of few rows: the same values, strides and speed aside."""

from __future__ import annotations

import pytest
import torch
from rounding import sum_bound
from tiny_language_model import tiny_llama
from torch import nn

from gridloom.runtime.models.language.linear_layout import FEW, few_row_logits, to_column_major


def lies_by_inputs(weight: torch.Tensor) -> bool:
    return not weight.is_contiguous() and weight.t().is_contiguous()


@pytest.mark.parametrize("rows", [1, 2, 16, 40])
def test_products_and_gradients_are_those_of_the_plain_layout(rows: int) -> None:
    torch.manual_seed(0)
    plain, other = nn.Linear(24, 56), nn.Linear(24, 56)
    other.load_state_dict(plain.state_dict())
    assert to_column_major(other) == 1
    assert lies_by_inputs(other.weight)
    assert torch.equal(plain.weight, other.weight)
    x, y = (torch.randn(rows, 24, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    plain(x).square().sum().backward()
    other(y).square().sum().backward()
    for ours, theirs in ((x.grad, y.grad), (plain.weight.grad, other.weight.grad)):
        assert ours is not None
        bound = sum_bound(24 + 56 + rows, float(ours.abs().max()))
        torch.testing.assert_close(theirs, ours, atol=bound, rtol=0)


def test_a_shared_matrix_another_type_and_no_linear_layer_are_left_alone() -> None:
    embedding, head = nn.Embedding(30, 12), nn.Linear(12, 30, bias=False)
    head.weight = embedding.weight
    coarse, normed = nn.Linear(12, 20).bfloat16(), nn.LayerNorm(12)
    model = nn.ModuleList([embedding, head, coarse, normed])
    assert to_column_major(model) == 0
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_a_loaded_language_model_is_laid_out_and_its_tied_head_is_not() -> None:
    llama = tiny_llama()
    layer = llama.model.model.layers[0]
    assert all(lies_by_inputs(linear.weight) for linear in (layer.self_attn.q_proj, layer.mlp.down_proj))
    assert llama.embeddings.weight.is_contiguous()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, FEW - 1, FEW, 16])
def test_logits_of_few_rows_are_the_heads(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    head, states = nn.Linear(12, 50, bias=bias), torch.randn(rows, 12)
    wanted = head(states).detach()
    bound = sum_bound(12, float(wanted.abs().max()))
    torch.testing.assert_close(few_row_logits(head, states), wanted, atol=bound, rtol=0)


def test_a_head_that_is_no_plain_linear_layer_is_called() -> None:
    states = torch.randn(16, 12)
    assert few_row_logits(nn.Sequential(nn.Linear(12, 50), nn.Tanh()), states).abs().max() <= 1


def test_the_other_order_is_taken_from_a_few_rows_on(monkeypatch: pytest.MonkeyPatch) -> None:
    head = nn.Linear(12, 50)
    monkeypatch.setattr(head, "forward", lambda states: torch.zeros(len(states), 50))
    assert not few_row_logits(head, torch.randn(FEW - 1, 12)).any()
    assert few_row_logits(head, torch.randn(FEW, 12)).any()
