"""The Universal Transformer: halting at each position by the definition, frozen positions, padding, options, cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.checkpoints.description import checkpoint_facts
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.sequences.vectors import vector_rows
from gridloom.runtime.models.kind import RowShape, network_cost
from gridloom.runtime.models.steps import Halting, Rows, row_halting
from gridloom.runtime.models.universal_transformer.facts import weights_problems
from gridloom.runtime.models.universal_transformer.hops import Halted, Hops
from gridloom.runtime.models.universal_transformer.network import UniversalTransformer
from gridloom.runtime.models.universal_transformer.signals import sinusoid, square_sinusoid
from gridloom.runtime.models.universal_transformer.spec import UniversalTransformerModel
from gridloom.runtime.training.loop import ActTrainer
from gridloom.specs.puzzles import ParityData
from gridloom.specs.stages import TrainStage

SQUARE = RowShape(3, 9, 6)
LINE = RowShape(0, 6, 5)
NUMBERS = RowShape(0, 5, 4, num_features=3, answers=2)
WHOLE = RowShape(0, 5, 3, num_features=1, whole=True)
FIXED = Halting("fixed")


def spec_of(**changes: Any) -> UniversalTransformerModel:
    sizes = {"hidden_size": 16, "embedding_size": 8, "heads": 2, "key_depth": 8, "value_depth": 12, "filter_size": 20}
    return UniversalTransformerModel(**{**sizes, **changes})


class Varied(nn.Module):
    """Halting probabilities between 0.05 and 0.85 that differ from position to position and from hop to hop."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, generator=torch.Generator().manual_seed(5)))

    def forward(self, state: Tensor) -> Tensor:
        return 0.45 + 0.4 * torch.sin(2 * state @ self.weight)


def build(rows: RowShape = LINE, seed: int = 0, varied: bool = True, **changes: Any) -> UniversalTransformer:
    """A small network whose positions halt at various hops; with its own halting unit unless `varied`."""
    network = UniversalTransformer(spec_of(**changes), rows, torch.Generator().manual_seed(seed))
    if varied and network.halting_unit is not None:
        network.halting_unit = Varied(network.spec.hidden_size)  # type: ignore[assignment]
    return network


def by_bias(rows: RowShape = LINE, **changes: Any) -> UniversalTransformer:
    """A network whose halting probability is that of its bias, whatever the state."""
    network = build(rows, varied=False, **changes)
    if network.halting_unit is not None:
        nn.init.zeros_(network.halting_unit.weight)
    return network


def example(rows: RowShape, batch: int = 7, seed: int = 1, lengths: bool = False) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    if rows.num_features:
        inputs = torch.randn(batch, rows.cells, rows.num_features, generator=generator)
    else:
        inputs = torch.randint(0, rows.vocabulary, (batch, rows.cells), generator=generator, dtype=torch.uint8)
    shape = (batch, rows.num_labels())
    labels = torch.randint(1, rows.vocabulary, shape, generator=generator, dtype=torch.uint8)
    valid = torch.randint(1, rows.cells + 1, (batch,), generator=generator, dtype=torch.int32) if lengths else None
    return Rows(inputs, torch.zeros(batch, dtype=torch.int64), labels, valid)


def reference(network: UniversalTransformer, rows: Rows, limit: int, plain: bool = False) -> Halted:
    """The definition position by position, dense: every position makes every hop, and halted ones are put back."""
    spec, block = network.spec, network.block
    state = network._embed(rows.inputs)
    batch, length, width = state.shape
    memory = network.memory
    num = 0 if memory is None else len(memory)
    valid = torch.ones(batch, length, dtype=torch.bool)
    if rows.lengths is not None:
        valid = torch.arange(length) < rows.lengths[:, None]
    if memory is not None:
        state = torch.cat((memory.expand(batch, -1, -1), state), dim=1)
    real = F.pad(valid, (num, 0), value=False)
    readable = F.pad(valid, (num, 0), value=True)
    total = num + length
    position = network.signals.positions(length, state.device, state.dtype)
    position = torch.zeros(length, width) if position is None else position
    position = F.pad(position if network.learned is None else network.learned, (0, 0, num, 0))
    mass, remainder = torch.zeros(batch, total), torch.zeros(batch, total)
    steps, forced = torch.zeros(batch, total), torch.zeros(batch, total, dtype=torch.bool)
    output, read_by_others = torch.zeros_like(state), torch.zeros_like(state)
    running, fresh = real.clone(), real | ~readable | ~real
    allowed = readable[:, None, None].expand(-1, 1, total, -1)
    if network.causal:
        allowed = allowed & torch.ones(total, total, dtype=torch.bool).tril()
    for n in range(1, limit + 1):
        x = state + position + (network.signals.hop(n - 1, state.device, state.dtype) if spec.hop_signal else 0.0)
        # a halted position shows the others what it would have been at the hop after its last one, and no more
        read_by_others = torch.where(fresh[:, :, None], x, read_by_others)
        fresh = running | ~real
        query = block.query(block.read(x))
        keys, values = block.key_value(block.read(read_by_others)).split((spec.keys, spec.values), dim=-1)
        parts = (t.view(batch, total, spec.heads, -1).transpose(1, 2) for t in (query, keys, values))
        query, keys, values = parts
        scores = query @ keys.transpose(2, 3) * (spec.keys // spec.heads) ** -0.5
        mixed = scores.masked_fill(~allowed, -torch.inf).softmax(dim=-1) @ values
        after = block.finish(x, mixed.transpose(1, 2).reshape(batch, total, -1))
        rows_run = running.any(dim=1, keepdim=True)
        state = torch.where((running | (~real & rows_run))[:, :, None], after, state)
        if plain or network.halting_unit is None:
            output, steps = state, torch.where(real, n, 0)
            continue
        seen = x if spec.halt_from == "before" else after
        q = network.halting_unit(seen.reshape(-1, width)).view(batch, total)
        natural = running & (mass + q > 1 - spec.halt_epsilon)
        ends = running & (natural | torch.tensor(n == limit))
        weight = torch.where(ends, 1 - mass, q)
        if spec.accumulator == "legacy":
            weight = torch.where(natural, 1 - mass, q)
            new = weight[:, :, None] * after + (1 - weight[:, :, None]) * output
        else:
            new = output + weight[:, :, None] * after
        output = torch.where(running[:, :, None], new, output)
        remainder = torch.where(ends, 1 - mass, remainder)
        steps = torch.where(running, n, steps)
        mass = torch.where(running, mass + q, mass)
        forced = forced | (ends & ~natural)
        running = running & ~ends
    output = torch.where(real[:, :, None], output, 0.0)
    return Halted(*(t[:, num:] for t in (output, steps.int(), remainder, mass.clamp(max=1), forced)))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"memory_tokens": 2},
    {"accumulator": "legacy"},
    {"norm": "post", "halt_from": "after"},
    {"attention": "causal", "memory_tokens": 3},
    {"attention": "full", "positions": "none", "halt_from": "after"},
    {"positions": "learned", "hop_signal": False},
    {"act": False},
    {"act": False, "memory_tokens": 1, "norm": "post"},
    {"key_depth": 0, "value_depth": 0},
]


@pytest.mark.parametrize("rows", [SQUARE, NUMBERS, WHOLE], ids=["tokens", "vectors", "whole"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_packed_hops_are_those_of_the_definition(rows: RowShape, options: dict[str, Any]) -> None:
    """Results and gradients equal those of dense hops in which every position is computed and halted ones put back.

    In fp64, whose rounding of 2^-53 a few hundred additions and five hops leave below 1e-9.
    """
    network = build(rows, **options).double()
    network.dtype = torch.float64
    given = example(rows, 12, lengths=rows.num_features > 0)
    weights = torch.randn(12, rows.cells, 16, generator=torch.Generator().manual_seed(3)).double()
    made = network.made(network.hops(given), 5).outcome()
    wanted = reference(network, given, 5)
    if network.halting_unit is not None:
        assert len(set(made.steps[made.steps > 0].tolist())) > 2, "an example must halt at several hops"
    gradients = []
    for found in (made, wanted):
        network.zero_grad(set_to_none=True)
        (found.state * weights + (found.steps + found.remainder)[:, :, None]).sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    assert made.steps.tolist() == wanted.steps.tolist()
    assert made.forced.tolist() == wanted.forced.tolist()
    for one, other in zip(
        (made.state, made.remainder, made.mass), (wanted.state, wanted.remainder, wanted.mass), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


class Given(nn.Module):
    """Halting probabilities of a single position, hop by hop."""

    def __init__(self, *probabilities: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.logit(torch.tensor(probabilities)))
        self.hop = 0

    def forward(self, state: Tensor) -> Tensor:
        self.hop += 1
        return torch.sigmoid(self.logits[self.hop - 1]).expand(len(state))


class Constant(nn.Module):
    """A block that returns 1 at every place, whatever it is given."""

    def __init__(self, network: UniversalTransformer, states: tuple[float, ...] = ()) -> None:
        super().__init__()
        self.inner, self.states, self.hop = network.block, states, 0

    def read(self, x: Tensor) -> Tensor:
        return self.inner.read(x)

    def query(self, x: Tensor) -> Tensor:
        return self.inner.query(x)

    def key_value(self, x: Tensor) -> Tensor:
        return self.inner.key_value(x)

    def finish(self, x: Tensor, mixed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        self.hop += 1
        return torch.full_like(x, self.states[self.hop - 1] if self.states else 1.0)


def test_three_hops_with_known_probabilities() -> None:
    """q = 0.2, 0.5, 0.6: N = 3, R = 0.3, o = 0.2 * 1 + 0.5 * 10 + 0.3 * 100, and d(N + R) / dq = -1, -1, 0."""
    network = build(halt_max_steps=6)
    unit = network.halting_unit = Given(0.2, 0.5, 0.6)  # type: ignore[assignment]
    network.block = Constant(network, (1.0, 10.0, 100.0))  # type: ignore[assignment]
    hops = network.made(network.hops(example(LINE, 1)), 6)
    found = hops.outcome()
    assert hops.made == 3
    assert found.steps.unique().tolist() == [3]
    assert not bool(found.forced.any())
    torch.testing.assert_close(found.remainder, torch.full((1, 6), 0.3))
    torch.testing.assert_close(found.state, torch.full((1, 6, 16), 35.2))
    (found.steps + found.remainder)[0, 0].backward()  # type: ignore[no-untyped-call]
    q = torch.tensor([0.2, 0.5, 0.6])
    assert unit.logits.grad is not None
    torch.testing.assert_close(unit.logits.grad / (q * (1 - q)), torch.tensor([-1.0, -1.0, 0.0]))


@pytest.mark.parametrize(
    ("bias", "accumulator", "output"),
    [(1.0, "sum", 1.0), (-4.0, "sum", 1.0), (1.0, "legacy", 0.803), (-4.0, "legacy", 0.103)],
)
def test_constant_states_give_that_constant_and_the_listing_less(bias: float, accumulator: str, output: float) -> None:
    network = by_bias(halt_bias=bias, accumulator=accumulator, halt_max_steps=6)
    network.block = Constant(network)  # type: ignore[assignment]
    found = network.made(network.hops(example(LINE)), 6).outcome()
    torch.testing.assert_close(found.state, torch.full_like(found.state, output), atol=6e-4, rtol=0)
    forced = bias < 0
    assert bool(found.forced.all()) == forced
    assert bool((found.remainder > 0).all())
    if forced:
        mass = 5 * torch.sigmoid(torch.tensor(bias))
        torch.testing.assert_close(found.remainder, torch.full_like(found.remainder, 1 - float(mass)))


def test_halted_positions_are_bit_identical_afterwards() -> None:
    """What a position has when it halts is what the last hop leaves of it, though others run on."""
    network, given = build(halt_max_steps=8), example(LINE, 12)
    hops = network.hops(given, traced=True)
    before: Halted | None = None
    frozen = 0
    with torch.no_grad():
        while not hops.over:
            hops.advance(last=hops.made == 7)
            now = hops.outcome()
            if before is not None:
                done = before.steps < hops.made - 1
                frozen += int(done.sum())
                assert torch.equal(now.state[done], before.state[done])
                assert torch.equal(now.steps[done], before.steps[done])
            before = now
    assert frozen > 20


@pytest.mark.parametrize("options", [{}, {"memory_tokens": 2}, {"attention": "full"}, {"act": False}], ids=str)
@pytest.mark.parametrize("rows", [NUMBERS, WHOLE], ids=["vectors", "whole"])
def test_padding_changes_nothing_and_rows_are_as_if_alone(rows: RowShape, options: dict[str, Any]) -> None:
    network, given = build(rows, **options), example(rows, lengths=True)
    lengths = given.lengths
    assert lengths is not None
    garbage = given.inputs.clone()
    garbage[torch.arange(rows.cells) >= lengths[:, None]] = 1e3
    found = [
        network.step(Rows(inputs, given.puzzle_ids, given.labels, lengths), network.initial_carry(len(inputs)))
        for inputs in (given.inputs, garbage)
    ]
    for (carry, output), (other_carry, other) in [tuple(found)]:
        real = network.rows.whole or (torch.arange(rows.cells) < lengths[:, None]).repeat_interleave(rows.answers, 1)
        assert torch.equal(output.logits[real], other.logits[real])
        assert torch.equal(output.ponder, other.ponder)
        assert torch.equal(carry.steps, other_carry.steps)
    carry, output = found[0]
    together = network.losses(output, carry)
    for row in range(len(lengths)):
        length = int(lengths[row])
        labels = given.labels
        assert labels is not None
        labels = labels[row : row + 1] if rows.whole else labels[row : row + 1, : length * rows.answers]
        alone = Rows(given.inputs[row : row + 1, :length], given.puzzle_ids[:1], labels)
        carry, output = network.step(alone, network.initial_carry(1, num_cells=length))
        if rows.whole:
            losses = network.losses(output, carry)
            torch.testing.assert_close(losses.total(), (together.classification + together.ponder)[row])
        else:
            torch.testing.assert_close(output.logits[0], found[0][1].logits[row, : length * rows.answers])
        torch.testing.assert_close(output.ponder[0], found[0][1].ponder[row])


def test_rows_without_a_valid_position_cost_nothing_and_break_nothing() -> None:
    for options in ({}, {"memory_tokens": 2}, {"act": False}):
        network, given = build(WHOLE, **options), example(WHOLE, 3)
        for lengths in ([0, 3, 0], [0, 0, 0]):
            empty = Rows(given.inputs, given.puzzle_ids, given.labels, torch.tensor(lengths, dtype=torch.int32))
            _, output = network.step(empty, network.initial_carry(3))
            assert bool(torch.isfinite(output.logits).all())
            assert output.ponder[0] == 0
            assert output.mean_steps.tolist()[0] == 0
            assert network.answer(empty).steps.tolist()[0] == 0
            network.trace(empty)


def test_every_option_changes_the_answers_or_the_loss() -> None:
    given = example(SQUARE)
    seen = {}
    for options in (
        {},
        {"embedding_size": 16},
        {"heads": 4},
        {"key_depth": 16},
        {"value_depth": 16},
        {"filter_size": 24},
        {"halt_max_steps": 2},
        {"act": False},
        {"halt_from": "after"},
        {"accumulator": "legacy"},
        {"norm": "post"},
        {"positions": "sinusoid_2d"},
        {"positions": "learned"},
        {"positions": "none"},
        {"hop_signal": False},
        {"attention": "causal"},
        {"memory_tokens": 1},
        {"readout": "mean"},
        {"dropout": 0.2},
        {"halt_epsilon": 0.3},
        {"ponder_weight": 0.1},
    ):
        network = build(SQUARE, **{**options}).train()  # type: ignore[arg-type]
        carry, output = network.step(given, network.initial_carry(7), generator=torch.Generator().manual_seed(0))
        seen[str(options)] = float(network.losses(output, carry).total().detach())
    for bias in (0.5, 1.0):
        network = build(SQUARE, varied=False, halt_bias=bias)
        carry, output = network.step(given, network.initial_carry(7))
        seen[str(bias)] = float(network.losses(output, carry).total().detach())
    assert len({round(value, 5) for value in seen.values()}) == len(seen), seen


def test_readout_each_of_a_whole_row_is_its_last_valid_position() -> None:
    network, given = build(WHOLE, readout="each"), example(WHOLE, lengths=True)
    assert given.lengths is not None
    hops = network.made(network.hops(given), 6).outcome()
    last = hops.state[torch.arange(7), given.lengths.long() - 1]
    _, output = network.step(given, network.initial_carry(7))
    torch.testing.assert_close(output.logits[:, 0], network.head(network.final_norm(last)))


def test_causal_attention_never_looks_ahead_and_auto_means_it_for_answers_at_time_steps() -> None:
    assert build(NUMBERS).causal
    assert not build(WHOLE).causal
    assert not build(SQUARE).causal
    network, given = build(NUMBERS, memory_tokens=2), example(NUMBERS)
    later = given.inputs.clone()
    later[:, 3:] += 1.0
    first, second = (
        network.step(Rows(inputs, given.puzzle_ids, given.labels), network.initial_carry(7))[1]
        for inputs in (given.inputs, later)
    )
    torch.testing.assert_close(first.logits[:, : 3 * 2], second.logits[:, : 3 * 2])
    assert not torch.allclose(first.logits[:, 3 * 2 :], second.logits[:, 3 * 2 :])


def test_nine_fixed_hops_over_a_limit_of_six_run_and_are_reported() -> None:
    for options in ({}, {"act": False}):
        network, given = build(halt_max_steps=6, **options), example(LINE)
        found = network.answer(given, 9, FIXED)
        assert found.steps.tolist() == [9] * 7
        assert found.num_computed == 63
        assert found.mean_steps is not None
        assert found.mean_steps.tolist() == [9.0] * 7
        wanted = reference(network, given, 9, plain=True).state
        tokens = network.head(network.final_norm(wanted)).argmax(dim=-1)
        assert torch.equal(found.tokens.long(), tokens)
    own = by_bias(halt_max_steps=6, halt_bias=-6.0).answer(given, 9)
    assert own.steps.tolist() == [9] * 7


def test_a_trace_shows_what_each_number_of_hops_would_answer() -> None:
    network, given = build(halt_max_steps=7), example(LINE, 12)
    trace = network.trace(given)
    for hop in range(1, len(trace.q_halt) + 1):
        answers = network.answer(given, hop)
        torch.testing.assert_close(answers.q_halt, trace.q_halt[hop - 1])
    assert torch.equal(answers.tokens, trace.tokens)
    assert trace.changed[0].tolist() == [6] * 12
    halted = network.trace_halting(given, Halting("score"))
    assert torch.equal(halted.tokens, trace.tokens)
    assert torch.equal(halted.steps, answers.steps)
    stopped = network.trace_halting(given, Halting("unchanged"))
    assert bool((stopped.steps <= halted.steps).all())
    for row, steps in enumerate(stopped.steps.tolist()):
        assert bool((stopped.q_halt[steps:, row] == 0).all())
        assert bool((stopped.changed[1 : steps - 1, row] > 0).all())


def test_halting_logits_are_per_position_and_a_row_has_that_of_its_last() -> None:
    network, given = build(NUMBERS), example(NUMBERS, lengths=True)
    _, output = network.step(given, network.initial_carry(7))
    assert output.q_halt.shape == (7, 5)
    assert given.lengths is not None
    padding = torch.arange(5) >= given.lengths[:, None]
    assert bool(torch.isinf(output.q_halt[padding]).all())
    assert torch.equal(network.answer(given).q_halt, row_halting(output.q_halt))


def test_training_figures_are_those_of_the_positions() -> None:
    network, given = build(NUMBERS, ponder_weight=0.5, halt_max_steps=4), example(NUMBERS, lengths=True)
    carry, output = network.step(given, network.initial_carry(7))
    losses = network.losses(output, carry)
    sums = network.figures(output, carry, losses, 7)
    assert len(sums) == network.num_sums
    means = network.figure_means((2 * sums).tolist(), 2)
    valid = output.valid
    steps, remainder = output.halted.steps[valid].float(), output.halted.remainder[valid].detach()
    assert means["loss"] == pytest.approx(float(losses.total().detach()) / 7, rel=1e-5)
    assert means["loss_classification"] + means["loss_ponder"] == pytest.approx(means["loss"], rel=1e-5)
    assert means["loss_ponder"] == pytest.approx(0.5 * means["ponder_raw"], rel=1e-5)
    assert means["act_steps"] == pytest.approx(float(steps.mean()), rel=1e-5)
    assert means["act_steps_p50"] == float(steps.quantile(0.5, interpolation="lower"))
    assert means["act_steps_p90"] == float(steps.quantile(0.9, interpolation="higher"))
    assert means["halt_forced"] == pytest.approx(float(output.halted.forced[valid].float().mean()), rel=1e-5)
    assert means["halt_natural"] + means["halt_forced"] == pytest.approx(1.0)
    assert means["remainder_mean"] == pytest.approx(float(remainder.mean()), rel=1e-5)
    assert means["remainder_std"] == pytest.approx(float(remainder.std(unbiased=False)), rel=1e-4)


def test_the_ponder_weight_follows_the_optimizer_step_in_training_alone() -> None:
    network, given = build(ponder_weight=1e-3, ponder_warmup_steps=100), example(LINE)
    carry, output = network.step(given, network.initial_carry(7))
    for training, step, weight in ((True, 0, 0.0), (True, 50, 5e-4), (True, 150, 1e-3), (False, 50, 1e-3)):
        network.train(training)
        network.optimizer_step = step
        torch.testing.assert_close(network.losses(output, carry).ponder, weight * output.ponder)


def test_in_the_warm_up_no_gradient_passes_through_the_halting_probabilities() -> None:
    given = example(LINE)
    for step, learns in ((99, False), (100, True)):
        network = build(varied=False, halt_warmup_steps=100, halt_bias=-1.0).train()
        network.optimizer_step = step
        carry, output = network.step(given, network.initial_carry(7))
        network.losses(output, carry).total().backward()  # type: ignore[no-untyped-call]
        unit = network.halting_unit
        assert unit is not None
        assert (unit.weight.grad is not None) == (unit.bias.grad is not None) == learns
        assert network.block.inner.weight.grad is not None
        assert output.ponder.requires_grad == learns


def test_dropout_is_drawn_from_the_generator_and_only_in_training() -> None:
    network, given = build(dropout=0.3).train(), example(LINE)

    def logits(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        output: Tensor = network.step(given, network.initial_carry(7), generator=generator)[1].logits
        return output

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    network.eval()
    assert torch.equal(logits(1), logits(2))


def test_signals_are_those_of_the_formula() -> None:
    signal = sinusoid(torch.arange(5), 8)
    for i in range(5):
        angles = [i * 10_000 ** (-k / 3) for k in range(4)]
        wanted = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        torch.testing.assert_close(signal[i], torch.tensor(wanted), rtol=1e-5, atol=1e-6)
    assert sinusoid(torch.arange(3), 7)[:, 6].tolist() == [0, 0, 0]
    square = square_sinusoid(4, 9).view(4, 4, 9)
    assert torch.equal(square[2, 0, :4], square[2, 3, :4])
    assert torch.equal(square[0, 3, 4:], square[2, 3, 4:])
    torch.testing.assert_close(square[2, 3, :4], sinusoid(torch.tensor([2]), 4)[0])
    torch.testing.assert_close(square[2, 3, 4:], sinusoid(torch.tensor([3]), 5)[0])


def test_longer_rows_get_longer_signals_and_learned_positions_refuse_them() -> None:
    longer = RowShape(0, 9, 5)
    given = example(longer, 3)
    answers = build(LINE).answer(Rows(given.inputs, given.puzzle_ids))
    assert answers.tokens.shape == (3, 9)
    with pytest.raises(ModelError, match="rows of 6, not of 9"):
        build(LINE, positions="learned").answer(Rows(given.inputs, given.puzzle_ids))


def test_two_dimensional_positions_need_a_square_and_run_on_other_canvases() -> None:
    with pytest.raises(ModelError, match="square canvas"):
        build(LINE, positions="sinusoid_2d")
    network = build(SQUARE, positions="sinusoid_2d")
    network.take_canvases((2, 3))
    assert network.answer(example(RowShape(2, 4, 6))).tokens.shape == (7, 4)
    with pytest.raises(ModelError, match="square canvases"):
        network.answer(example(RowShape(0, 7, 6)))
    with pytest.raises(ModelError, match="sinusoid_2d or none"):
        build(SQUARE).take_canvases((2, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "key_depth 8"),
        ({"heads": 5, "key_depth": 10}, "value_depth 12"),
        ({"heads": 3, "key_depth": 0}, "key_depth 16, its hidden_size"),
    ],
)
def test_heads_that_do_not_divide_a_depth_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(**changes)
    assert {problem.code for problem in spec_of(**changes).problems()} == {"GL363"}


def test_the_maze_network_has_the_published_number_of_weights() -> None:
    rows = RowShape(30, 900, 6)
    network = UniversalTransformer(UniversalTransformerModel(), rows)
    assert sum(p.numel() for p in network.parameters()) == 827_015
    assert network_cost(network.spec, rows).parameters == 827_015


@pytest.mark.parametrize("rows", [SQUARE, NUMBERS, WHOLE], ids=["tokens", "vectors", "whole"])
@pytest.mark.parametrize("options", [*OPTIONS, {"readout": "mean"}, {"embedding_size": 16}], ids=str)
def test_cost_counts_weights_exactly_and_products_at_the_limit(rows: RowShape, options: dict[str, Any]) -> None:
    network = by_bias(rows, **{"halt_bias": -20.0, "halt_max_steps": 3, "attention": "full", **options}).eval()
    cost = network_cost(network.spec, rows)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    given = example(rows, 4)
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network.step(given, network.initial_carry(4))
    assert counted.get_total_flops() == cost.act_step(4).forward


def test_memory_kept_for_the_backward_pass_is_that_of_the_cost() -> None:
    rows = RowShape(6, 36, 6)
    network = by_bias(rows, halt_bias=-20.0, hidden_size=64, key_depth=32, value_depth=32, filter_size=32)
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    given = example(rows, 16)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        carry, output = network.step(given, network.initial_carry(16))
        network.losses(output, carry).total()
    estimate = network_cost(network.spec, rows).activation_bytes(16)
    assert sum(kept.values()) == pytest.approx(estimate, rel=0.1)


def test_halted_positions_are_not_computed() -> None:
    network, given = build(halt_max_steps=8), example(LINE, 12)
    hops = network.made(network.hops(given), 8)
    found = hops.outcome()
    assert hops.computed == int(found.steps.sum())
    assert hops.row_hops == int(found.steps.amax(dim=1).sum())


def test_weight_decay_spares_norms_biases_embeddings_and_the_halting_unit() -> None:
    network = build(SQUARE, varied=False, memory_tokens=2, positions="learned")
    spared = {id(p) for p in network.undecayed()}
    decayed = {name for name, p in network.named_parameters() if id(p) not in spared}
    blocks = {"query", "key_value", "output", "inner", "outer"}
    assert decayed == {f"block.{name}.weight" for name in blocks} | {"widen.weight", "head.weight"}
    assert {id(p) for p in network.matrices()} == {id(getattr(network.block, name).weight) for name in blocks}


def test_bf16_stays_near_fp32() -> None:
    given = example(SQUARE)
    logits = []
    for precision in ("fp32", "bf16"):
        network = by_bias(SQUARE, precision=precision, halt_bias=3.0).eval()
        with torch.no_grad(), network.rounded():
            logits.append(network.step(given, network.initial_carry(7))[1].logits.float())
        network.freeze_rounded()
        assert network.answer(given).tokens.shape == (7, 9)
    assert float((logits[0] - logits[1]).abs().max()) < 0.1


def test_a_bundle_gives_the_same_network_back(tmp_path: Path) -> None:
    network, given = build(WHOLE, varied=False).eval(), example(WHOLE, lengths=True)
    save_bundle(tmp_path, Bundle({NETWORK: network}, PuzzleIds.of(()), meta={"kind": "parity"}))
    loaded = load_bundle(tmp_path, torch.device("cpu")).network
    assert torch.equal(loaded.answer(given).q_halt, network.answer(given).q_halt)
    assert checkpoint_facts(str(tmp_path), "").network == "universal_transformer"


def test_weights_of_other_widths_are_named() -> None:
    config = {"spec": spec_of().model_dump(mode="json"), "vocabulary": 6, "answers": 1}
    shapes = {"block.inner.weight": (20, 16), "head.weight": (6, 16)}
    assert weights_problems(config, shapes) == []
    assert weights_problems(config, {**shapes, "head.weight": (5, 16)}) == ["head.weight is [5, 16], not [6, 16]"]
    assert weights_problems(config, {"head.weight": (6, 16)}) == ["block.inner.weight is absent, not [20, 16]"]


def test_hops_report_nothing_before_the_first() -> None:
    network = build()
    hops: Hops = network.hops(example(LINE))
    assert (hops.made, hops.computed, hops.over) == (0, 0, False)


def test_a_resumed_training_is_bit_identical_with_dropout_and_a_warm_up() -> None:
    """Six steps equal three, a restored state, and three more; the halting unit begins to learn at the fourth."""
    data = ParityData(bits=5, layout="sequence")
    stage = TrainStage(model="ut", data="parity", steps=6, batch_size=8, warmup_steps=0, ema=0.5)

    def trainer() -> ActTrainer:
        return ActTrainer(build(WHOLE, varied=False, dropout=0.2, halt_warmup_steps=3), stage, seed=3)

    whole, first, second = trainer(), trainer(), trainer()
    for step in range(6):
        whole.step(vector_rows(data, step, 8))
        if step < 3:
            first.step(vector_rows(data, step, 8))
    second.restore(first.state())
    for step in range(3, 6):
        second.step(vector_rows(data, step, 8))
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert whole.means() == second.means()
