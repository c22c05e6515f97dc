"""Inference: exact savings give the bits of the plain path, rows halt where it is asked for, and keep their bits."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from rounding import spread
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive import inference, layers
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.inference import answer, tiles, trace
from gridloom.runtime.models.recursive.layers import Linear, rounded_once
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.spec import HrmModel, TrmHier6Model, TrmModel, TrmSingleZModel
from gridloom.runtime.models.steps import Halting

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_heads": 2,
    "layers": 1,
    "expansion": 1.0,
    "halt_max_steps": 99,
    "puzzle_embedding_len": 2,
    "H_cycles": 2,
    "L_cycles": 2,
}
SPECS = {
    "trm": TrmModel(**SIZES, precision="fp32"),
    "bf16": TrmModel(**SIZES, precision="bf16"),
    "mlp": TrmModel(**SIZES, precision="fp32", mixing="mlp", positions="none"),
    "singlez": TrmSingleZModel(**SIZES, precision="fp32"),
    "hier6": TrmHier6Model(**SIZES, precision="fp32"),
    "hrm": HrmModel(**SIZES, precision="fp32"),
}
ROWS = 7


def network(name: str = "trm", seed: int = 0) -> RecursiveNetwork:
    """A network that has something to say: drawn heads, drawn puzzle rows."""
    generator = torch.Generator().manual_seed(seed)
    model = build_network(SPECS[name], 3, 5, generator=generator).eval()
    model.puzzle_emb.weights.normal_(std=0.2, generator=generator)
    with torch.no_grad():
        model.q_head.weight.normal_(std=0.5, generator=generator)
        model.q_head.bias.zero_()  # type: ignore[union-attr]
    return model


def batch(rows: int = ROWS, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(0, 12, (rows, 9), generator=generator, dtype=torch.uint8),
        torch.randint(0, 5, (rows,), generator=generator),
    )


@torch.no_grad()
def plain(model: RecursiveNetwork, tokens: Tensor, ids: Tensor, steps: int) -> list[tuple[Tensor, Tensor]]:
    """Tokens and halting logits after each step, by whole ACT steps: embedding, heads and all, tile by tile."""
    parts = []
    for rows in tiles(model, *tokens.shape):
        carry = model.initial_carry(len(tokens[rows]))
        outputs = []
        for _ in range(steps):
            carry, output = model.act_step(carry, tokens[rows], ids[rows])
            outputs.append((output.logits.argmax(dim=-1).to(torch.uint8), output.q_halt))
        parts.append(outputs)
    return [
        (torch.cat([part[s][0] for part in parts]), torch.cat([part[s][1] for part in parts])) for s in range(steps)
    ]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a tile, so that a batch of seven has three tiles, the last of one row."""
    monkeypatch.setattr(inference, "TILE_ELEMENTS", 3 * 11 * 24)
    assert [rows.stop - rows.start for rows in tiles(network(), ROWS, network().num_cells)] == [3, 3, 1]


@pytest.mark.parametrize("name", SPECS)
def test_savings_give_the_bits_of_the_plain_path(name: str) -> None:
    model = network(name)
    wanted = plain(model, *batch(), steps=5)
    found, traced = answer(model, *batch(), steps=5), trace(model, *batch(), steps=5)
    for tokens, q_halt in ((found.tokens, found.q_halt), (traced.tokens, traced.q_halt[-1])):
        assert torch.equal(tokens, wanted[-1][0])
        assert torch.equal(q_halt, wanted[-1][1])
    assert torch.equal(traced.q_halt, torch.stack([q for _, q in wanted]))
    assert traced.changed[1:].tolist() == [(a != b).sum(dim=1).tolist() for (a, _), (b, _) in pairwise(wanted)]
    assert found.steps.tolist() == [5] * ROWS
    assert found.num_computed == 5 * ROWS


@pytest.mark.parametrize("wide", [False, True], ids=["with bf16 products", "without"])
@pytest.mark.parametrize("name", SPECS)
def test_rounding_for_good_changes_no_bit(name: str, wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MULTIPLIES_BF16", not wide)
    model = network(name)
    wanted = answer(model, *batch(), steps=3)
    layers.round_for_good(model)
    found = answer(model, *batch(), steps=3)
    assert torch.equal(found.tokens, wanted.tokens)
    assert torch.equal(found.q_halt, wanted.q_halt)
    for module in model.modules():
        if isinstance(module, layers.Linear) and name == "bf16":
            assert module.weight.dtype == (torch.float32 if wide else torch.bfloat16)
            assert torch.equal(module.weight.float(), module.weight.bfloat16().float())
            assert module.rounded is not None, "no second copy is made"
            assert module.rounded.data_ptr() == module.weight.data_ptr()


def halved(z: Tensor) -> Tensor:
    return (z * 32).trunc() / 64


def test_states_that_repeat_end_a_tile_without_changing_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    # states that shrink to nothing within a few steps, and stand still from then on
    monkeypatch.setattr(model, "recur", lambda z_H, z_L, *_: (halved(z_H), halved(z_L)))
    wanted = plain(model, *batch(), steps=20)
    found, traced = answer(model, *batch(), steps=20), trace(model, *batch(), steps=20)
    assert found.num_computed < 15 * ROWS
    assert found.steps.tolist() == [20] * ROWS
    assert torch.equal(found.tokens, wanted[-1][0])
    assert torch.equal(found.q_halt, wanted[-1][1])
    assert torch.equal(traced.q_halt, torch.stack([q for _, q in wanted]))
    assert traced.changed.shape == (20, ROWS)


def test_what_other_rows_hold_changes_no_bit_of_a_row() -> None:
    model = network()
    tokens, ids = batch()
    alone = answer(model, tokens, ids, 5)
    for place in range(ROWS):
        others, other_ids = batch(seed=2 + place)
        others[place], other_ids[place] = tokens[place], ids[place]
        found = answer(model, others, other_ids, 5)
        assert torch.equal(found.q_halt[place], alone.q_halt[place])
        assert torch.equal(found.tokens[place], alone.tokens[place])


def test_rows_that_halted_are_computed_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "TILE_ELEMENTS", 100 * 11 * 24)
    model = network(seed=3)
    found = answer(model, *batch(rows=60), steps=8, halting=Halting("score"))
    assert 60 < found.steps.sum() < 8 * 60
    # a few run on until they are a quarter of the tile
    assert found.steps.sum() <= found.num_computed < (found.steps.sum() + 8 * 60) / 2


def streaks(says: list[Tensor], patience: int) -> list[int]:
    """The step, from 1, at which each row has said so `patience` times in a row; the last where it never has."""
    steps = []
    for row in range(ROWS):
        made, streak = len(says), 0
        for step, said in enumerate(says, start=1):
            streak = streak + 1 if said[row] else 0
            if streak == patience:
                made = step
                break
        steps.append(made)
    return steps


@cache
def rounding_of_steps(name: str) -> list[float]:
    """Bound on the rounding error of the halting logits after each of eight steps, in fp32."""
    model = network(name, seed=3)
    return list(
        spread(
            model,
            lambda: {str(step): q for step, (_, q) in enumerate(plain(model, *batch(), steps=8))},
            model.spec.hidden_size,
        ).values()
    )


@pytest.mark.parametrize("patience", [1, 2])
@pytest.mark.parametrize("when", ["score", "unchanged"])
@pytest.mark.parametrize("name", ["trm", "bf16", "hrm"])
def test_rows_halt_where_they_say_so_with_the_answer_of_that_step(name: str, when: Any, patience: int) -> None:
    model = network(name, seed=3)
    outputs = plain(model, *batch(), steps=8)
    if when == "score" and name != "hrm":
        says = [q > 0 for _, q in outputs]
    elif when == "score":
        says = []
        for step in range(1, 9):
            states = trace(model, *batch(), steps=step).carry.z_H
            says.append(model.halts(model.halting(states)))
    else:
        first = torch.zeros(ROWS, dtype=torch.bool)
        says = [first] + [(a[:, :1] == b[:, :1]).all(dim=1) for (a, _), (b, _) in pairwise(outputs)]
    wanted = streaks(says, patience)
    found = answer(
        model, *batch(), steps=8, halting=Halting(when, patience), same=lambda a, b: (a[:, :1] == b[:, :1]).all(dim=1)
    )
    assert found.steps.tolist() == wanted
    # Rows that are left move together, so they are rounded otherwise, and each step amplifies what was rounded before:
    # in bf16 to the size of the logits themselves, so that there steps and tokens are compared alone. They are equal
    # where the sums of fewer rows round to the same bf16 numbers, which depends on the kind of processor.
    bounds = rounding_of_steps(name) if name != "bf16" else [math.inf] * 8
    for row, step in enumerate(wanted):
        assert torch.equal(found.tokens[row], outputs[step - 1][0][row])
        assert abs(found.q_halt[row] - outputs[step - 1][1][row]) < bounds[step - 1]
    if name == "trm" and patience == 1:
        assert min(wanted) < 8, "some row halts"
        assert found.num_computed < 8 * ROWS


def test_no_rows_and_no_steps() -> None:
    model = network()
    assert answer(model, *batch(rows=0)).tokens.shape == (0, 9)
    with pytest.raises(ModelError, match="at least 1, not 0"):
        answer(model, *batch(), steps=0)


@pytest.fixture
def no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without instructions for bf16."""
    monkeypatch.setattr(layers, "MULTIPLIES_BF16", False)


def test_wide_products_are_those_of_the_rounded_numbers_rounded_once(no_bf16: None) -> None:
    linear = Linear(96, 64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(50, 96, generator=torch.Generator().manual_seed(1)).bfloat16()
    exact = x.double() @ linear.weight.detach().bfloat16().double().T
    found = linear(x)
    assert found.dtype == torch.bfloat16
    # half a unit in the last place of bf16 is at most 2**-8 of the value; sums in fp32 add little
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-6).all()


def test_weights_rounded_once_give_the_same_outputs_and_gradients(no_bf16: None) -> None:
    model = network("bf16").train()
    results = []
    for once in (False, True):
        model.zero_grad()
        carry = model.initial_carry(ROWS)
        if once:
            with rounded_once(model):
                _, output = model.act_step(carry, *batch())
                assert all(m.rounded is not None for m in model.modules() if isinstance(m, Linear))
        else:
            _, output = model.act_step(carry, *batch())
        output.logits.float().square().sum().backward()  # type: ignore[no-untyped-call]
        results.append((output.logits, [p.grad for p in model.parameters() if p.grad is not None]))
    assert torch.equal(results[0][0], results[1][0])
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)
    assert all(m.rounded is None for m in model.modules() if isinstance(m, Linear))


def test_with_bf16_instructions_weights_are_held_only_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "MULTIPLIES_BF16", True)
    model = network("bf16")
    with rounded_once(model):
        assert model.lm_head.rounded is None
    with torch.no_grad(), rounded_once(model):
        assert model.lm_head.rounded is not None
        assert model.lm_head.rounded.dtype == torch.bfloat16
