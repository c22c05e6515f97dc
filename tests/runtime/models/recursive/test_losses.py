"""Losses by their formulas: stablemax in fp32, masks, divisors, the halting target."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rounding import UNIT, sum_bound

from gridloom.runtime.models.recursive import losses
from gridloom.runtime.models.recursive.losses import log_stablemax, row_losses
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM

SPEC = TrmModel(
    hidden_size=32,
    num_heads=2,
    layers=1,
    H_cycles=1,
    L_cycles=1,
    expansion=1.0,
    puzzle_embedding_len=2,
    halt_max_steps=2,
    precision="fp32",
)


def reference(x: torch.Tensor) -> torch.Tensor:
    x = x.double()
    s = torch.where(x < 0, 1 / (1 - x), x + 1)
    return torch.log(s / s.sum(-1, keepdim=True))


def test_log_stablemax_equals_the_float64_formula() -> None:
    x = torch.randn(2000, 12, generator=torch.Generator().manual_seed(0)) * 8
    wanted = reference(x)
    # four operations round values as large, the sum has 12 terms; each is off by a unit in the last place at most
    bound = 2 * UNIT * (4 * float(wanted.abs().max()) + 12)
    assert float((log_stablemax(x) - wanted).abs().max()) < bound


@pytest.mark.parametrize("value", [1.0, 0.0, -1.0, 1e4, -1e4])
def test_gradient_is_that_of_the_formula_at_awkward_logits(value: float) -> None:
    x = torch.full((1, 3), value, requires_grad=True)
    log_stablemax(x)[0, 0].backward()
    slope = 1 / (1 + abs(value))  # d log s / dx on either side
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.tensor([[slope * 2 / 3, -slope / 3, -slope / 3]]), rtol=1e-4)


@pytest.fixture(params=[("cpu",), ()], ids=["scored tokens alone", "all tokens"], autouse=True)
def heads_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "PACKED_ON", request.param)


@pytest.fixture
def model() -> TRM:
    model = TRM(SPEC, 3, 4, generator=torch.Generator().manual_seed(0)).train()
    with torch.no_grad():
        model.q_head.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def run(model: TRM, labels: torch.Tensor, heads: bool = True) -> tuple:  # type: ignore[type-arg]
    tokens = torch.randint(0, 12, labels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    ids = torch.arange(len(labels)) % 4
    _, output = model.act_step(model.initial_carry(len(labels)), tokens, ids, labels=labels, heads=heads)
    return output, row_losses(model, output, labels)


ROUNDINGS = 2 * 6 * 32 + 4 * 11
"""On the way to a gradient: six products over 32 inputs, forward and backward; a sum over four rows of 11 positions."""

LABELS = torch.tensor(
    [[2, 3, 1, 4, 5, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0], [7, 1, 0, 1, 0, 0, 0, 0, 0]], dtype=torch.uint8
)


@torch.no_grad()
def test_row_losses_equal_a_loop_over_rows(model: TRM) -> None:
    output, losses = run(model, LABELS)
    for b, labels in enumerate(LABELS):
        scored = labels != 0
        n = max(1, int(scored.sum()))
        terms = [-reference(output.logits[b, i])[labels[i].long()] for i in scored.nonzero().flatten()]
        assert float(losses.lm[b]) == pytest.approx(float(sum(terms)) / n, abs=1e-5)
        right = output.logits[b].argmax(-1)[scored] == labels[scored]
        assert bool(losses.correct[b]) == (bool(right.all()) and bool(scored.any()))
        assert float(losses.accuracy[b]) == pytest.approx(float(right.sum()) / n)
        halting = F.binary_cross_entropy_with_logits(output.q_halt[b], losses.correct[b].float())
        assert float(losses.q_halt[b]) == pytest.approx(float(halting) if scored.any() else 0.0)
    assert float(losses.total()) == pytest.approx(float((losses.lm + 0.5 * losses.q_halt).sum()))


def test_a_row_that_is_right_everywhere_counts_as_correct(model: TRM) -> None:
    output, _ = run(model, LABELS)
    exact = torch.where(LABELS != 0, output.logits.argmax(-1), 0).to(torch.uint8)
    output, losses = run(model, exact)
    assert losses.correct.tolist() == [bool((row != 0).any()) for row in exact]


def test_padded_rows_add_nothing(model: TRM) -> None:
    _, losses = run(model, LABELS)
    assert losses.lm[1] == 0
    assert losses.q_halt[1] == 0
    assert not losses.correct[1]
    assert losses.scored.tolist() == [True, False, True]


def test_loss_without_logits_equals_the_one_with(model: TRM) -> None:
    (with_heads, a), (without, b) = run(model, LABELS), run(model, LABELS, heads=False)
    assert with_heads.logits.shape == (3, 9, 12)
    assert without.logits.numel() == 0
    assert torch.allclose(a.lm, b.lm, atol=1e-6)
    assert torch.equal(a.correct, b.correct)


def test_both_ways_give_the_same_gradients(model: TRM, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for packed_on in (("cpu",), ()):
        monkeypatch.setattr(losses, "PACKED_ON", packed_on)
        _, found = run(model, LABELS, heads=False)
        found.total().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        model.zero_grad(set_to_none=True)
    assert gradients[0].keys() == gradients[1].keys()
    assert float(gradients[0]["lm_head.weight"].norm()) > 0
    for name, gradient in gradients[0].items():
        bound = sum_bound(ROUNDINGS, float(gradient.abs().max()))
        torch.testing.assert_close(gradients[1][name], gradient, atol=bound, rtol=0)


def test_repeating_the_batch_leaves_the_mean_gradient_unchanged(model: TRM) -> None:
    gradients = []
    for repeat in (1, 2):
        labels = LABELS[[0, 2]].repeat(repeat, 1)
        tokens = torch.randint(0, 12, (2, 9), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
        _, output = model.act_step(
            model.initial_carry(2 * repeat),
            tokens.repeat(repeat, 1),
            torch.tensor([1, 2]).repeat(repeat),
            labels=labels,
        )
        (row_losses(model, output, labels).total() / (2 * repeat)).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice, atol=sum_bound(ROUNDINGS, float(once.abs().max())), rtol=0)
