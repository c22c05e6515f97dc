"""The ACT-RNN: pondering with known probabilities, padding that costs nothing, an exact cost, vector rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.checkpoints.description import checkpoint_facts
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.sequences.vectors import vector_layout, vector_rows
from gridloom.runtime.models.act_rnn.cost import ActRnnCost
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.steps import Rows
from gridloom.specs.puzzles import LogicData, ParityData, SortData

ROWS = RowShape(0, 3, 4, num_features=5)


def build(**changes: Any) -> ActRnn:
    spec = ActRnnModel(hidden_size=6, **changes)
    return ActRnn(spec, ROWS, torch.Generator().manual_seed(0))


def with_probability(q: float, **changes: Any) -> ActRnn:
    """A network whose halting probability is `q` at every ponder step, whatever the state."""
    network = build(**changes)
    with torch.no_grad():
        network.halting_unit.weight.zero_()
        network.halting_unit.bias.fill_(math.log(q / (1 - q)))
    return network


@pytest.mark.parametrize(
    ("q", "limit", "steps", "remainder"),
    [(0.4, 20, 3, 0.2), (0.6, 20, 2, 0.4), (0.992, 20, 1, 1.0), (0.1, 4, 4, 0.7), (0.3, 1, 1, 1.0)],
    ids=["three steps", "two steps", "one step", "forced at the limit", "limit of one"],
)
def test_steps_remainder_and_mean_state_are_those_of_the_paper(
    q: float, limit: int, steps: int, remainder: float
) -> None:
    network = with_probability(q, halt_max_steps=limit)
    x, start = torch.randn(2, 5), torch.randn(2, 6)
    made = network.ponder(x, start)
    assert made.steps.tolist() == [steps, steps]
    assert made.ponder.tolist() == pytest.approx([steps + remainder] * 2, rel=1e-5)
    state, states = start, []
    for n in range(steps):
        flagged = torch.cat((x, torch.full((2, 1), float(n == 0))), dim=1)
        state = torch.tanh(network.cell_input(flagged) + network.cell_state(state))
        states.append(state)
    weights = [q] * (steps - 1) + [remainder]
    torch.testing.assert_close(made.state, sum(p * s for p, s in zip(weights, states, strict=True)))


def test_the_ponder_cost_has_the_gradient_of_its_definition() -> None:
    """d(N + R) / dq_n is -1 before the last step and 0 at it."""
    network = with_probability(0.4)
    network.ponder(torch.randn(1, 5), torch.zeros(1, 6)).ponder.sum().backward()
    assert network.halting_unit.bias.grad is not None
    assert float(network.halting_unit.bias.grad) == pytest.approx(-2 * 0.4 * 0.6, rel=1e-4)


def test_rows_of_unlike_halting_get_the_result_of_a_row_alone() -> None:
    network = build(halt_bias=-1.0)
    x, start = 3 * torch.randn(16, 5), torch.randn(16, 6)
    together = network.ponder(x, start)
    assert len(set(together.steps.tolist())) > 1
    for row in range(16):
        alone = network.ponder(x[row : row + 1], start[row : row + 1])
        assert alone.steps.tolist() == together.steps[row : row + 1].tolist()
        torch.testing.assert_close(alone.state[0], together.state[row])


def test_inputs_behind_a_row_s_length_change_nothing_and_cost_nothing() -> None:
    network, ids = build(), torch.zeros(2, dtype=torch.int64)
    inputs = torch.randn(2, 3, 5)
    labels = torch.tensor([[1, 2, 0], [3, 0, 0]], dtype=torch.uint8)
    lengths = torch.tensor([2, 1], dtype=torch.int32)
    garbage = inputs.clone()
    garbage[0, 2], garbage[1, 1:] = 100.0, -100.0
    results = []
    for data in (inputs, garbage):
        carry, output = network.step(Rows(data, ids, labels, lengths), network.initial_carry(2))
        losses = network.losses(output, carry)
        results.append((losses.total(), output.ponder, carry.steps, network.figures(output, carry, losses, 2)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_cost_counts_parameters_exactly_and_products_at_the_limit() -> None:
    network = with_probability(0.01, halt_max_steps=7).eval()
    cost = ActRnnCost(network.spec, ROWS)
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network.step(Rows(torch.randn(4, 3, 5), torch.zeros(4, dtype=torch.int64)), network.initial_carry(4))
    # the cost has W x once a ponder step, the network twice an input: once with the flag, once without
    once = 3 * 2 * 4 * 6 * (5 + 1)
    assert counted.get_total_flops() == cost.act_step(4).forward - (7 - 2) * once


def test_inference_is_one_step_and_answers_are_classes() -> None:
    network = build().eval()
    rows = Rows(torch.randn(3, 3, 5), torch.zeros(3, dtype=torch.int64), torch.ones(3, 3, dtype=torch.uint8))
    answers = network.answer(rows)
    assert answers.steps.tolist() == [1, 1, 1]
    assert answers.tokens.shape == (3, 3)
    _, output = network.step(rows, network.initial_carry(3))
    assert torch.equal(answers.tokens, output.logits.argmax(dim=-1).to(torch.uint8))
    assert answers.loss is not None
    torch.testing.assert_close(answers.loss, network.answer_loss(output.logits, torch.ones(3, 3, dtype=torch.uint8)))


def test_a_bundle_gives_the_network_back(tmp_path: Path) -> None:
    network = build()
    save_bundle(tmp_path / "out", Bundle({NETWORK: network}, PuzzleIds.of(()), meta={"data": {"kind": "parity"}}))
    back = load_bundle(tmp_path / "out").network
    assert isinstance(back, ActRnn)
    assert back.spec == network.spec
    assert back.rows == network.rows
    assert all(torch.equal(a, b) for a, b in zip(back.parameters(), network.parameters(), strict=True))
    assert checkpoint_facts(str(tmp_path / "out"), ".").network == "act_rnn"


def test_tokens_are_refused() -> None:
    with pytest.raises(ModelError, match="reads vectors; these rows are tokens"):
        ActRnn.for_rows(ActRnnModel(), RowShape(3), PuzzleIds.of(()))


@pytest.mark.parametrize("spec", [ParityData(bits=6), LogicData(steps=4, gates=3), SortData(length=5)])
def test_vector_rows_have_the_shape_that_the_compiler_is_given(spec: Any) -> None:
    layout, rows = vector_layout(spec), vector_rows(spec, 2, 32)
    assert layout is not None
    assert rows.inputs.shape == (32, layout.num_steps, layout.num_features)
    assert rows.labels.shape == (32, layout.num_steps)
    assert rows.labels.max() == layout.vocabulary - 1
    assert rows.valid.max() <= layout.num_steps
    for row in range(32):
        assert not rows.labels[row, rows.valid[row] :].any()
        assert not rows.inputs[row, rows.valid[row] :].any()


def test_the_answers_of_sorting_are_the_indices_in_ascending_order() -> None:
    rows = vector_rows(SortData(length=5), 0, 16)
    for inputs, labels, length in zip(rows.inputs, rows.labels, rows.lengths, strict=True):
        answers = labels[length : 2 * length].astype(int) - 1
        assert answers.tolist() == inputs[:length, 0].argsort().tolist()
        assert not labels[:length].any()
