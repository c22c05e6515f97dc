"""Optimisers, schedule and averages by their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gridloom.runtime.models.layers import PuzzleEmbedding
from gridloom.runtime.training.ema import Ema
from gridloom.runtime.training.optim import AdamATan2, lr_factor, sign_sgd_rows, step_puzzle_rows


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


def test_average_starts_from_the_initial_weights_and_leaves_buffers_alone() -> None:
    model = torch.nn.BatchNorm1d(2)
    ema = Ema(model, 0.9)
    with torch.no_grad():
        model.weight.fill_(3.0)
        model.running_mean.fill_(5.0)  # type: ignore[union-attr]
    ema.update()
    state = ema.state_of(model)
    assert torch.allclose(state["weight"], torch.full((2,), 0.9 * 1 + 0.1 * 3))
    assert torch.equal(state["running_mean"], torch.full((2,), 5.0))
    assert torch.equal(model.weight, torch.full((2,), 3.0))
