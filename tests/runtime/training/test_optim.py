"""Optimisers, schedule and averages by their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.models.recursive.layers import PuzzleEmbedding
from gridloom.runtime.training.optim import (
    AdamATan2,
    Ema,
    Muon,
    MuonWith,
    lr_factor,
    orthogonalise,
    set_lr,
    sign_sgd_rows,
    step_puzzle_rows,
)
from gridloom.runtime.training.state import optimizer_tensors, restore_optimizer


@pytest.mark.parametrize("lr", [0.0, 0.01])
def test_adam_atan2_equals_its_formula_over_100_steps(lr: float) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(5, 7))
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = AdamATan2([parameter], lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    p, m, v = start.copy(), np.zeros((5, 7)), np.zeros((5, 7))
    for t in range(1, 101):
        g = rng.normal(size=(5, 7)) * (t % 7)
        parameter.grad = torch.tensor(g)
        optimizer.step()
        p *= 1 - lr * 0.1
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g * g
        p -= lr * np.arctan2(m / (1 - 0.9**t), np.sqrt(v) / np.sqrt(1 - 0.95**t))
    np.testing.assert_allclose(parameter.detach().numpy(), p, atol=1e-6)


def test_adam_atan2_only_decays_without_gradient_signal() -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamATan2([parameter], lr=0.1, weight_decay=0.5)
    parameter.grad = torch.zeros(3)
    optimizer.step()
    assert torch.allclose(parameter, torch.full((3,), 0.95))


def test_duplicate_ids_move_a_row_once_by_lr() -> None:
    table = torch.ones(4, 3)
    gradients = torch.tensor([[1.0, -1, 0], [2.0, -5, 0], [-1.0, 1, 1]])
    sign_sgd_rows(table, torch.tensor([2, 2, 0]), gradients, lr=0.1, weight_decay=0.5)
    shrunk = 1 - 0.1 * 0.5
    assert torch.allclose(table[2], torch.tensor([shrunk - 0.1, shrunk + 0.1, shrunk]))
    assert torch.allclose(table[0], torch.tensor([shrunk + 0.1, shrunk - 0.1, shrunk - 0.1]))
    assert torch.equal(table[[1, 3]], torch.ones(2, 3))


def test_gradients_of_one_id_are_summed_before_the_sign() -> None:
    table = torch.zeros(2, 1)
    sign_sgd_rows(table, torch.tensor([1, 1, 1]), torch.tensor([[1.0], [1.0], [-5.0]]), lr=0.1, weight_decay=0)
    assert table.flatten().tolist() == pytest.approx([0, 0.1])


@given(ids=st.lists(st.integers(0, 5), min_size=1, max_size=40), seed=st.integers(0, 99))
@settings(deadline=None)
def test_rows_move_as_if_each_distinct_id_stood_once(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    table, named = torch.randn(6, 5, generator=generator), torch.tensor(ids)
    gradients = torch.randint(-3, 4, (len(ids), 5), generator=generator).float()
    wanted = table.clone()
    for row in set(ids):
        total = gradients[named == row].sum(dim=0)
        wanted[row] = wanted[row] * (1 - 0.1 * 0.5) - 0.1 * total.sign()
    sign_sgd_rows(table, named, gradients, lr=0.1, weight_decay=0.5)
    assert torch.equal(table, wanted)


def test_task_rows_move_with_all_views_of_their_task() -> None:
    embedding = PuzzleEmbedding(4, 2, torch.tensor([0, 1, 1, 2]))
    step_puzzle_rows(embedding, torch.tensor([1, 2]), torch.tensor([[3.0, -1.0], [-1.0, -1.0]]), 0.1, 0.0)
    assert torch.allclose(embedding.weights[1], torch.tensor([-0.1, 0.1]))
    assert torch.allclose(embedding.weights[2], torch.tensor([0.1, 0.1]))
    assert embedding.task_weights is not None
    assert torch.allclose(embedding.task_weights[1], torch.tensor([-0.1, 0.1]))
    assert not embedding.task_weights[[0, 2]].any()


def test_schedule_warms_up_then_follows_the_cosine() -> None:
    assert lr_factor(1, 10_000, 2000, 1.0) == 1 / 2000
    assert lr_factor(1000, 10_000, 2000, 1.0) == 0.5
    assert [lr_factor(step, 10_000, 2000, 1.0) for step in (2000, 10_000)] == [1, 1]
    assert lr_factor(6000, 10_000, 2000, 0.1) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert lr_factor(10_000, 10_000, 2000, 0.1) == pytest.approx(0.1)
    assert lr_factor(1, 10, 0, 0.5) == pytest.approx(0.5 + 0.25 * (1 + math.cos(math.pi / 10)))


def test_schedule_stays_at_the_top_until_the_decay_begins() -> None:
    factors = [lr_factor(step, 1000, 100, 0.0, decay=0.2) for step in (100, 500, 820, 910, 1000)]
    assert factors == pytest.approx([1, 1, 1, 0.5, 0], abs=1e-6)


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (16, 16)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 100
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.3
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    assert float((orthogonalise(matrix) * (u @ v)).sum()) / min(shape) > 0.8
    assert not orthogonalise(torch.zeros(shape)).any()


def test_muon_moves_by_its_formula() -> None:
    p = torch.nn.Parameter(torch.ones(4, 9))
    optimizer, momentum, expected = Muon([p], lr=0.1, momentum=0.9, weight_decay=0.5), torch.zeros(4, 9), p.detach()
    for step in range(3):
        p.grad = torch.randn(4, 9, generator=torch.Generator().manual_seed(step))
        momentum = 0.9 * momentum + p.grad
        expected = expected * (1 - 0.05) - 0.1 * 0.2 * 3 * orthogonalise(p.grad + 0.9 * momentum)
        optimizer.step()
    assert torch.allclose(p, expected, atol=1e-6)


def test_muon_with_a_partner_resumes_and_schedules_as_one() -> None:
    def build() -> tuple[list[torch.nn.Parameter], MuonWith]:
        params = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))]
        return params, MuonWith(Muon(params[:1], lr=0.1), AdamATan2(params[1:], lr=0.1))

    def move(params: list[torch.nn.Parameter], optimizer: MuonWith, step: int) -> None:
        for p in params:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
        set_lr(optimizer, 0.1 / (step + 1))
        optimizer.step()

    whole, first = build()
    for step in range(4):
        move(whole, first, step)
    parts, second = build()
    for step in range(2):
        move(parts, second, step)
    resumed, third = build()
    for p, q in zip(resumed, parts, strict=True):
        p.data.copy_(q.data)
    restore_optimizer(third, optimizer_tensors(second, "o"), "o")
    for step in (2, 3):
        move(resumed, third, step)
    assert all(torch.equal(p, q) for p, q in zip(whole, resumed, strict=True))
    assert not torch.equal(whole[0], torch.ones(4, 4))


def test_average_starts_from_the_initial_weights_and_leaves_buffers_alone() -> None:
    model = torch.nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)  # type: ignore[union-attr]
    ema.update(1)
    state = ema.state_of(model)
    assert torch.allclose(state["weight"], torch.full((2,), 0.9 * 1 + 0.1 * 3))
    assert torch.equal(state["running_mean"], torch.full((2,), 5.0))
    assert torch.equal(model.weight, torch.full((2,), 3.0))
