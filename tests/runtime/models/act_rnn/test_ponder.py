"""Pondering with known probabilities, and its backward pass beside automatic differentiation of the definition."""

from __future__ import annotations

import gc
import weakref
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gridloom.runtime.models.act_rnn.cells import CELLS
from gridloom.runtime.models.act_rnn.ponder import Pondered, Rule, Weights, ponder

CellName = Literal["tanh", "gru", "lstm"]
NAMES: tuple[CellName, ...] = ("tanh", "gru", "lstm")
WIDTH = 4


def drawn(cell: CellName, bias: float = -1.2, dtype: torch.dtype = torch.float64) -> Weights:
    """Random weights, in fp64 so that finite differences are exact to many digits."""
    gates = CELLS[cell].gates * WIDTH

    def some(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=dtype).requires_grad_()

    first = torch.full((1,), bias, dtype=dtype).requires_grad_()
    return Weights(some(gates), some(gates, WIDTH), some(gates) if cell == "gru" else None, some(WIDTH), first)


def defined(
    x: Tensor, weights: Weights, cell: CellName, rule: Rule, lengths: list[int], start: list[Tensor]
) -> tuple[Tensor, Tensor, list[list[int]]]:
    """Mean states, costs and N, row by row and step by step, from the equations alone."""
    state = [part.clone() for part in start]
    means, costs, counts = [], [], []
    for t in range(len(x)):
        rows: list[list[Tensor]] = []
        cost, count = [], []
        for b in range(x.shape[1]):
            if t >= lengths[b]:
                rows.append([part[b] for part in state])
                cost.append(x.new_zeros(()))
                count.append(0)
                continue
            now, made, total = [part[b] for part in state], [], x.new_zeros(())
            for n in range(1, rule.limit + 1):
                now = stepped(x[t, b] + weights.flag * (n == 1), weights, cell, now)
                q = torch.sigmoid(weights.halting @ now[0] + weights.halting_bias[0])
                if rule.fixed:
                    made = [(now, x.new_ones(()))]
                elif n == rule.limit or float((total + q).detach()) >= 1 - rule.epsilon:
                    made.append((now, 1 - total))
                    break
                else:
                    made.append((now, q))
                    total = total + q
            rows.append([sum((p * s[i] for s, p in made), x.new_zeros(WIDTH)) for i in range(len(state))])
            cost.append(x.new_zeros(()) if rule.fixed else len(made) + made[-1][1])
            count.append(rule.limit if rule.fixed else len(made))
        state = [torch.stack([row[i] for row in rows]) for i in range(len(state))]
        means.append(state[0])
        costs.append(torch.stack(cost))
        counts.append(count)
    return torch.stack(means), torch.stack(costs), counts


def stepped(x: Tensor, weights: Weights, cell: CellName, state: list[Tensor]) -> list[Tensor]:
    product = weights.state @ state[0]
    if cell == "tanh":
        return [torch.tanh(x + product)]
    if cell == "gru":
        assert weights.bias is not None
        (xr, xz, xn), (pr, pz, pn) = x.chunk(3), (product + weights.bias).chunk(3)
        n = torch.tanh(xn + torch.sigmoid(xr + pr) * pn)
        z = torch.sigmoid(xz + pz)
        return [(1 - z) * n + z * state[0]]
    i, f, o, g = (x + product).chunk(4)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [torch.sigmoid(o) * torch.tanh(c), c]


@pytest.mark.parametrize("cell", NAMES)
@pytest.mark.parametrize("fixed", [False, True], ids=["halting", "fixed"])
@pytest.mark.parametrize("lengths", [None, [3, 1, 2, 3, 1, 2]], ids=["whole", "lengths"])
@pytest.mark.parametrize("given_start", [False, True], ids=["from zero", "from a state"])
@pytest.mark.parametrize("drop_cost", [0, 100, 10**6], ids=["dropped at once", "dropped late", "never dropped"])
def test_results_and_gradients_are_those_of_the_definition(
    monkeypatch: pytest.MonkeyPatch,
    cell: CellName,
    fixed: bool,
    lengths: list[int] | None,
    given_start: bool,
    drop_cost: int,
) -> None:
    monkeypatch.setattr("gridloom.runtime.models.act_rnn.ponder.DROP_COST", drop_cost)
    torch.manual_seed(1)
    weights, rule = drawn(cell), Rule(5, 0.01, fixed)
    x = torch.randn(3, 6, CELLS[cell].gates * WIDTH, dtype=torch.float64).requires_grad_()
    start = [torch.zeros(6, WIDTH, dtype=torch.float64) for _ in range(CELLS[cell].states)]
    if given_start:
        start = [torch.randn_like(part).requires_grad_() for part in start]
    valid = [3] * 6 if lengths is None else lengths
    made = ponder(
        x,
        weights,
        CELLS[cell],
        rule,
        None if lengths is None else torch.tensor(lengths),
        tuple(start) if given_start else None,
    )
    state, cost, steps = defined(x, weights, cell, rule, valid, start)
    assert made.steps.tolist() == steps
    if not fixed:
        ended = made.mass.gt(0)
        torch.testing.assert_close((made.steps + made.remainder)[ended], cost[ended])
        assert made.natural[ended].tolist() == made.mass[ended].ge(1 - rule.epsilon).tolist()
    assert fixed or len({n for row in steps for n in row}) > 2
    torch.testing.assert_close(made.state, state)
    torch.testing.assert_close(made.cost, cost)
    leaves = [x, *(part for part in weights if part is not None), *(start if given_start else [])]
    by_state, by_cost = torch.randn_like(state), torch.randn_like(cost)
    ours = torch.autograd.grad((made.state * by_state).sum() + (made.cost * by_cost).sum(), leaves)
    theirs = torch.autograd.grad(
        (state * by_state).sum() + (cost * by_cost).sum() + 0.0 * sum(leaf.sum() for leaf in leaves), leaves
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def constant(q: float, limit: int = 20, epsilon: float = 0.01) -> Pondered:
    """Pondering of one input of two rows where every halting probability is `q`."""
    weights = drawn("tanh", dtype=torch.float32)
    logit = torch.logit(torch.tensor([q]))
    still = weights._replace(halting=torch.zeros(WIDTH), halting_bias=logit)
    return ponder(torch.randn(1, 2, WIDTH), still, CELLS["tanh"], Rule(limit, epsilon))


@pytest.mark.parametrize(
    ("q", "limit", "steps", "remainder", "natural"),
    [
        (0.4, 20, 3, 0.2, True),
        (0.6, 20, 2, 0.4, True),
        (0.992, 20, 1, 1.0, True),
        (0.1, 4, 4, 0.7, False),
        (0.3, 1, 1, 1.0, False),
    ],
    ids=["three steps", "two steps", "one step", "forced at the limit", "limit of one"],
)
def test_steps_and_remainder_of_known_probabilities(
    q: float, limit: int, steps: int, remainder: float, natural: bool
) -> None:
    made = constant(q, limit)
    assert made.steps.tolist() == [[steps, steps]]
    assert made.remainder.tolist() == [pytest.approx([remainder] * 2, rel=1e-5)]
    assert made.cost.tolist() == [pytest.approx([steps + remainder] * 2, rel=1e-5)]
    assert made.natural.tolist() == [[natural] * 2]
    assert made.mass.tolist() == [pytest.approx([q * steps] * 2, rel=1e-5)]


@pytest.mark.parametrize(("bias", "steps"), [(-2.0, 9), (-1.0, 4), (0.1, 2), (1.0, 2)])
def test_initial_biases_give_the_steps_of_their_probability(bias: float, steps: int) -> None:
    made = constant(float(torch.sigmoid(torch.tensor(bias))))
    assert made.steps.tolist() == [[steps, steps]]


def test_three_steps_by_hand() -> None:
    """States 1, 2, 3 with q = 0.2, 0.5, 0.9: N = 3, R = 0.3, mean 0.2 * 1 + 0.5 * 2 + 0.3 * 3 = 2.1."""

    class Counting:
        """h' = h + 1, as exact as fp32."""

        gates = states = 1

        def forward(self, x: Tensor, product: Tensor | None, state: tuple[Tensor, ...]) -> tuple:  # type: ignore[type-arg]
            return (state[0] + 1,), ()

    # logits linear in the state: w h + b cannot hit three probabilities, so the third is whatever ends it
    logits = torch.logit(torch.tensor([0.2, 0.5]))
    slope = logits[1] - logits[0]
    weights = Weights(torch.zeros(1), torch.zeros(1, 1), None, slope.reshape(1), (logits[0] - slope).reshape(1))
    made = ponder(torch.zeros(1, 1, 1), weights, Counting(), Rule(20, 0.01))  # type: ignore[arg-type]
    third = torch.sigmoid(logits[0] + 2 * slope)
    assert 0.2 + 0.5 + float(third) >= 0.99
    assert made.steps.item() == 3
    assert made.remainder.item() == pytest.approx(0.3)
    assert made.state.item() == pytest.approx(0.2 * 1 + 0.5 * 2 + 0.3 * 3)
    assert made.cost.item() == pytest.approx(3.3)


@pytest.mark.parametrize("limit", [20, 3], ids=["natural", "forced"])
def test_the_cost_has_derivative_minus_one_by_the_probabilities_before_the_last(limit: int) -> None:
    """Finite differences of N + R by the logit of constant probabilities of 0.2: (N - 1) of them move R."""
    weights = drawn("tanh")
    x = torch.randn(1, 1, WIDTH, dtype=torch.float64)

    def cost(logit: Tensor) -> Tensor:
        still = weights._replace(halting=torch.zeros(WIDTH, dtype=torch.float64), halting_bias=logit)
        made = ponder(x, still, CELLS["tanh"], Rule(limit, 0.01)).cost.sum()
        assert isinstance(made, Tensor)
        return made

    logit = torch.logit(torch.tensor([0.22], dtype=torch.float64)).requires_grad_()
    (found,) = torch.autograd.grad(cost(logit), logit)
    step = 1e-6
    with torch.no_grad():
        difference = (cost(logit + step) - cost(logit - step)) / (2 * step)
    before_last = (5 if limit == 20 else limit) - 1
    assert float(found) == pytest.approx(-before_last * 0.22 * 0.78)
    assert float(found) == pytest.approx(float(difference), rel=1e-5)


def test_the_memory_of_an_lstm_goes_from_input_to_input() -> None:
    torch.manual_seed(0)
    weights, x = drawn("lstm"), torch.randn(1, 1, 4 * WIDTH, dtype=torch.float64)
    h = torch.randn(1, WIDTH, dtype=torch.float64)
    outputs = [ponder(x, weights, CELLS["lstm"], Rule(5, 0.01), start=(h, c)).state for c in (0 * h, 1 + 0 * h)]
    assert not torch.allclose(*outputs)
    both = torch.randn(2, 1, 4 * WIDTH, dtype=torch.float64)
    state, _, _ = defined(both, weights, "lstm", Rule(5, 0.01), [2], [0 * h, 0 * h])
    torch.testing.assert_close(ponder(both, weights, CELLS["lstm"], Rule(5, 0.01)).state, state)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(NAMES),
    st.integers(1, 12),
    st.floats(0.001, 0.4),
    st.floats(-4, 4),
)
def test_weights_are_a_distribution_and_constant_states_come_out_as_they_are(
    seed: int, name: CellName, limit: int, epsilon: float, bias: float
) -> None:
    """With states of ones the mean state is the sum of the weights: 1."""
    torch.manual_seed(seed)
    weights = drawn(name, bias, torch.float32)

    class Ones:
        """A cell whose states are ones, beside one column that drives the halting unit."""

        gates, states = CELLS[name].gates, 1

        def forward(self, x: Tensor, product: Tensor | None, state: tuple[Tensor, ...]) -> tuple:  # type: ignore[type-arg]
            ones = torch.ones_like(state[0])
            ones[:, 0] = torch.randn(len(ones))
            return (ones,), ()

    driven = weights._replace(halting=torch.eye(WIDTH)[0] * 2)
    made = ponder(torch.zeros(2, 5, CELLS[name].gates * WIDTH), driven, Ones(), Rule(limit, epsilon))  # type: ignore[arg-type]
    torch.testing.assert_close(made.state[:, :, 1:], torch.ones(2, 5, WIDTH - 1), rtol=0, atol=1e-6)
    assert (made.steps >= 1).all()
    assert (made.steps <= limit).all()
    assert (made.remainder > 0).all()
    assert (made.remainder <= 1).all()
    assert (made.natural | (made.steps == limit)).all()


@pytest.mark.parametrize("cell", NAMES)
def test_a_graph_that_nothing_holds_is_freed(cell: CellName) -> None:
    """A training step must leave nothing behind: its records hold every state of every ponder step."""
    weights = drawn(cell)
    x = torch.randn(3, 2, len(weights.flag), dtype=torch.float64)
    made = ponder(x, weights, CELLS[cell], Rule(5, 0.01), torch.tensor([3, 2]))
    made.state.sum().backward()
    graph = weakref.ref(made.state.grad_fn)
    del made
    gc.collect()
    assert graph() is None
