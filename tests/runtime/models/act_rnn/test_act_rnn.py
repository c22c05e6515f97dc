"""The ACT-RNN as a network: rows of unlike lengths, both forms, figures, limits, an exact cost, vector rows."""

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
from gridloom.runtime.models.act_rnn.figures import NUM_SUMS, means_of
from gridloom.runtime.models.act_rnn.network import ActRnn
from gridloom.runtime.models.act_rnn.spec import ActRnnModel
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.steps import Halting, Rows
from gridloom.specs.puzzles import LogicData, ParityData, SortData

ROWS = RowShape(0, 3, 4, num_features=5)
BOARD = RowShape(3, 9, 5)


@pytest.fixture(autouse=True)
def _same_rows() -> None:
    torch.manual_seed(0)


def build(rows: RowShape = ROWS, **changes: Any) -> ActRnn:
    spec = ActRnnModel(**{"hidden_size": 6, **changes})
    return ActRnn(spec, rows, torch.Generator().manual_seed(0))


def with_probability(q: float, rows: RowShape = ROWS, **changes: Any) -> ActRnn:
    """A network whose halting probability is `q` at every ponder step, whatever the state."""
    network = build(rows, **changes)
    with torch.no_grad():
        network.halting_unit.weight.zero_()
        network.halting_unit.bias.fill_(math.log(q / (1 - q)))
    return network


def rows_of(inputs: torch.Tensor, labels: torch.Tensor | None = None, lengths: list[int] | None = None) -> Rows:
    ids = torch.zeros(len(inputs), dtype=torch.int64)
    return Rows(inputs, ids, labels, None if lengths is None else torch.tensor(lengths, dtype=torch.int32))


def test_inputs_behind_a_row_s_length_change_nothing_and_cost_nothing() -> None:
    network = build()
    inputs = torch.randn(2, 3, 5)
    labels = torch.tensor([[1, 2, 0], [3, 0, 0]], dtype=torch.uint8)
    garbage = inputs.clone()
    garbage[0, 2], garbage[1, 1:] = 100.0, -100.0
    results = []
    for data in (inputs, garbage):
        carry, output = network.step(rows_of(data, labels, [2, 1]), network.initial_carry(2))
        losses = network.losses(output, carry)
        results.append((losses.total(), output.pondered.cost, carry.steps, network.figures(output, carry, losses, 2)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_row_among_rows_of_other_lengths_is_as_alone(cell: str, reduction: str) -> None:
    network = build(RowShape(0, 5, 4, 5, answers=2), cell=cell, ponder_reduction=reduction, halt_bias=-1.0)
    inputs, lengths = 2 * torch.randn(5, 5, 5), [1, 2, 3, 4, 5]
    labels = torch.randint(1, 4, (5, 10), dtype=torch.uint8)
    for row, length in enumerate(lengths):
        labels[row, 2 * length :] = 0
    carry, output = network.step(rows_of(inputs, labels, lengths), network.initial_carry(5))
    losses, answers = network.losses(output, carry), network.answer(rows_of(inputs, labels, lengths))
    for row, length in enumerate(lengths):
        alone = rows_of(inputs[row : row + 1, :length], labels[row : row + 1, : 2 * length])
        one_carry, one = network.step(alone, network.initial_carry(1, num_cells=length))
        one_losses, one_answer = network.losses(one, one_carry), network.answer(alone)
        torch.testing.assert_close(one.logits[0], output.logits[row, : 2 * length])
        torch.testing.assert_close(one_losses.classification[0], losses.classification[row])
        torch.testing.assert_close(one_losses.ponder[0], losses.ponder[row])
        assert int(one_carry.steps) == int(carry.steps[row])
        assert float(one_answer.steps) == pytest.approx(float(answers.steps[row]))
        torch.testing.assert_close(one_answer.q_halt[0], answers.q_halt[row])


def test_answers_of_the_whole_row_are_read_after_its_last_input() -> None:
    network = build(RowShape(0, 4, 3, 5, answers=2, whole=True), cell="lstm")
    inputs = torch.randn(2, 4, 5)
    together = network.answer(rows_of(inputs, lengths=[2, 4]))
    assert together.tokens.shape == (2, 2)
    for row, length in enumerate((2, 4)):
        alone = network.answer(rows_of(inputs[row : row + 1, :length]))
        assert torch.equal(alone.tokens[0], together.tokens[row])
    longer = network.answer(rows_of(torch.randn(2, 9, 5)))
    assert longer.tokens.shape == (2, 2), "rows longer than those of the training"


def test_the_puzzle_form_has_the_parameters_of_its_definition() -> None:
    """Embedding 6 x 16, map of 900 x 16 to 512, GRU of 512 + flag, halting unit, map of 512 to 900 x 6."""
    spec, rows = ActRnnModel(cell="gru", hidden_size=512), RowShape(30, 900, 6)
    with torch.device("meta"):
        network = ActRnn(spec, rows)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_721_593
    assert ActRnnCost(spec, rows).parameters == 11_721_593


@pytest.mark.parametrize("batch", [1, 64])
def test_both_forms_of_the_map_of_a_board_are_one_function(batch: int) -> None:
    """Many rows go through a table of every token at every place, few through their own embeddings."""
    network = build(BOARD)
    tokens = torch.randint(0, 5, (batch, 9), dtype=torch.uint8)
    wanted = torch.relu(network.encoder(network.embedding(tokens.long()).flatten(1)))
    torch.testing.assert_close(network._board(tokens), wanted)
    _, output = network.step(rows_of(tokens), network.initial_carry(batch))
    assert output.logits.shape == (batch, 9, 5)
    assert network.answer(rows_of(tokens)).steps.dtype == torch.int32


def test_rows_of_another_shape_are_refused_by_name() -> None:
    with pytest.raises(ModelError, match="reads vectors of 5 numbers, not rows of shape \\[3, 7\\]"):
        build().answer(rows_of(torch.randn(1, 3, 7)))
    with pytest.raises(ModelError, match="reads boards of 9 tokens at once, not rows of shape \\[16\\]"):
        build(BOARD).answer(rows_of(torch.zeros(1, 16, dtype=torch.uint8)))
    with pytest.raises(ModelError, match="ponder steps must be at least 1, not 0"):
        build().answer(rows_of(torch.randn(1, 3, 5)), steps=0)


def test_the_time_penalty_warms_up_by_optimizer_step_and_is_final_in_evaluation() -> None:
    network = build(ponder_weight=1e-3, ponder_warmup_steps=100)
    rows = rows_of(torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.uint8))
    for step, tau in ((0, 0.0), (50, 5e-4), (150, 1e-3)):
        network.optimizer_step = step
        carry, output = network.step(rows, network.initial_carry(2))
        losses = network.losses(output, carry)
        torch.testing.assert_close(losses.ponder, tau * output.pondered.cost.mean(dim=0))
        means = network.figure_means(network.figures(output, carry, losses, 2).tolist(), 1)
        assert means["ponder_weight"] == pytest.approx(tau)
        assert means["ponder_raw"] == pytest.approx(float(output.pondered.cost.detach().mean()), rel=1e-5)
    network.optimizer_step = 0
    carry, output = network.eval().step(rows, network.initial_carry(2))
    torch.testing.assert_close(network.losses(output, carry).ponder, 1e-3 * output.pondered.cost.mean(dim=0))


def test_the_halting_unit_learns_from_the_step_after_its_warm_up_on() -> None:
    network = build(halt_warmup_steps=3)
    rows = rows_of(torch.randn(2, 3, 5), torch.ones(2, 3, dtype=torch.uint8))
    learns = []
    for step in range(5):
        network.zero_grad(set_to_none=True)
        network.optimizer_step = step
        carry, output = network.step(rows, network.initial_carry(2))
        network.losses(output, carry).total().backward()
        learns.append(network.halting_unit.weight.grad is not None)
        assert network.cell_state.weight.grad is not None
    assert learns == [False, False, False, True, True]


def test_figures_are_of_the_inputs_and_rows_of_all_micro_batches() -> None:
    """Probabilities of 0.4: N = 3, R = 0.2, natural; under a limit of two N = 2, R = 0.6, forced."""
    rows = rows_of(torch.randn(4, 3, 5), torch.ones(4, 3, dtype=torch.uint8), [3, 3, 2, 1])
    for limit, steps, remainder, natural in ((20, 3, 0.2, 1.0), (2, 2, 0.6, 0.0)):
        network = with_probability(0.4, halt_max_steps=limit)
        sums = torch.zeros(network.num_sums)
        for part in (slice(0, 2), slice(2, 4)):
            carry, output = network.step(rows.part(part), network.initial_carry(2))
            sums += network.figures(output, carry, network.losses(output, carry), 4).detach()
        means = network.figure_means(sums.tolist(), 1)
        assert set(means) == {*network.STEP_FIGURES, *network.ROW_FIGURES}
        assert means["act_steps"] == means["act_steps_p50"] == means["act_steps_p90"] == steps
        assert means["remainder_mean"] == pytest.approx(remainder, rel=1e-5)
        assert means["remainder_std"] == pytest.approx(0, abs=1e-3)
        assert (means["halt_natural"], means["halt_forced"]) == (natural, 1 - natural)
        assert means["loss"] == pytest.approx(means["loss_classification"] + means["loss_ponder"], rel=1e-6)


def test_quantiles_count_the_inputs_that_have_halted() -> None:
    sums = [0.0] * NUM_SUMS + [5.0, 0.0, 4.0, 1.0]
    sums[NUM_SUMS - 2] = 10.0
    means = means_of(sums, 0)
    assert (means["act_steps_p50"], means["act_steps_p90"]) == (1.0, 3.0)
    assert means_of([0.0] * len(sums), 0) == {}


def test_fixed_steps_are_made_whatever_the_halting_unit_says() -> None:
    network = with_probability(0.999)
    x = torch.randn(2, 1, 5)
    answers = network.answer(rows_of(x), steps=30, halting=Halting("fixed"))
    assert answers.steps.tolist() == [30, 30]
    trained = with_probability(0.999, fixed_steps=4)
    carry, output = trained.step(rows_of(x), trained.initial_carry(2, num_cells=1))
    assert carry.steps.tolist() == [4, 4]
    assert not output.pondered.cost.any()
    assert not output.natural.any()
    assert not output.forced.any()
    state = torch.zeros(2, 6)
    for n in range(4):
        flagged = torch.cat((x[:, 0], torch.full((2, 1), float(n == 0))), dim=1)
        state = torch.tanh(trained.cell_input(flagged) + trained.cell_state(state))
    torch.testing.assert_close(output.logits[:, 0], trained.output(state))


def test_a_lower_limit_forces_and_a_trace_shows_every_limit() -> None:
    network = with_probability(0.3)
    rows = rows_of(torch.randn(3, 1, 5))
    assert network.answer(rows).steps.tolist() == [4, 4, 4]
    assert network.answer(rows, steps=2).steps.tolist() == [2, 2, 2]
    traced = network.trace(rows)
    assert traced.q_halt.shape == (4, 3), "no limit beyond N changes a row"
    assert torch.equal(traced.tokens, network.answer(rows).tokens)
    assert traced.changed[0].tolist() == [1, 1, 1]
    halted = network.trace_halting(rows, Halting("score"))
    assert halted.steps.tolist() == [4, 4, 4]
    unchanged = network.answer(rows, halting=Halting("unchanged"))
    assert all(1 <= made <= 4 for made in unchanged.steps.tolist())


def test_the_halting_logit_is_that_of_the_mean_probability_of_the_slowest_input() -> None:
    network = with_probability(0.3)
    rows = rows_of(torch.randn(2, 3, 5), lengths=[3, 1])
    torch.testing.assert_close(torch.sigmoid(network.answer(rows).q_halt), torch.full((2,), 0.3))
    assert network.answer(rows, steps=2).q_halt.tolist() == pytest.approx([math.log(0.3 / 0.7)] * 2, rel=1e-4)


def test_weight_decay_spares_halting_unit_embedding_and_biases() -> None:
    network = build(BOARD, cell="gru")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert sorted(names[id(parameter)] for parameter in network.undecayed()) == [
        "cell_input.bias",
        "cell_state.bias",
        "embedding.weight",
        "encoder.bias",
        "halting_unit.bias",
        "halting_unit.weight",
        "output.bias",
    ]


def test_weights_in_bf16_give_nearly_the_answers_of_fp32() -> None:
    exact, rounded = build(cell="gru"), build(cell="gru", precision="bf16")
    x = rows_of(torch.randn(4, 3, 5))
    _, one = exact.step(x, exact.initial_carry(4))
    _, other = rounded.step(x, rounded.initial_carry(4))
    other.logits.float().sum().backward()
    assert rounded.cell_state.weight.grad is not None
    torch.testing.assert_close(one.logits, other.logits.float(), rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("rows", "batch"),
    [(ROWS, 4), (RowShape(0, 1, 3, 8), 4), (RowShape(0, 3, 4, 5, 2, True), 4), (BOARD, 1), (BOARD, 64)],
    ids=["vectors", "one vector", "whole row", "one board", "boards"],
)
@pytest.mark.parametrize("cell", ["tanh", "gru", "lstm"])
def test_cost_counts_parameters_and_products_exactly(rows: RowShape, batch: int, cell: str) -> None:
    network = with_probability(0.01, rows, cell=cell, halt_max_steps=7).eval()
    cost = ActRnnCost(network.spec, rows)
    assert cost.parameters == sum(parameter.numel() for parameter in network.parameters())
    if rows.num_features:
        inputs = torch.randn(batch, rows.cells, rows.num_features)
    else:
        inputs = torch.randint(0, 5, (batch, 9), dtype=torch.uint8)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        network.step(rows_of(inputs), network.initial_carry(batch))
    # the counter does not see products of a matrix and a vector: those of the halting unit
    unit = 2 * batch * 6 * 7 * (rows.cells if rows.num_features else 1)
    assert counted.get_total_flops() == cost.act_step(batch).forward - unit


def test_answers_are_classes_and_steps_the_mean_of_a_row_s_inputs() -> None:
    network = with_probability(0.4).eval()
    rows = Rows(torch.randn(3, 3, 5), torch.zeros(3, dtype=torch.int64), torch.ones(3, 3, dtype=torch.uint8))
    answers = network.answer(rows)
    assert answers.steps.tolist() == [3.0, 3.0, 3.0]
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
