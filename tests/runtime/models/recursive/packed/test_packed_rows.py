"""Packed rows: a row alone equals it in any company, full squares equal canvases bit for bit, rows are exchanged."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import SAFETY, UNIT, spread

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive import fused
from gridloom.runtime.models.recursive.build import build_network
from gridloom.runtime.models.recursive.inference import answer, trace
from gridloom.runtime.models.recursive.losses import row_losses
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.runtime.models.recursive.packed import attention, passes
from gridloom.runtime.models.recursive.packed.attention import Group, mix_by_groups
from gridloom.runtime.models.recursive.packed.carry import (
    NewRows,
    begun,
    exchange,
    from_row_order,
    in_row_order,
)
from gridloom.runtime.models.recursive.packed.layout import Layout, PackedRope
from gridloom.runtime.models.recursive.packed.step import packed_losses, packed_step
from gridloom.runtime.models.recursive.spec import (
    HrmModel,
    TransformerModel,
    TrmHier6Model,
    TrmModel,
    TrmSingleZModel,
)
from gridloom.runtime.models.steps import Halting, Rows

CANVAS = 8
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_heads": 2,
    "layers": 1,
    "H_cycles": 2,
    "expansion": 1.0,
    "positions": "rope_2d",
    "puzzle_embedding_len": 3,
    "halt_max_steps": 4,
    "precision": "fp32",
}
KINDS = [TrmModel, TrmSingleZModel, TrmHier6Model, HrmModel, TransformerModel]
SHAPES = st.lists(st.tuples(st.integers(1, CANVAS), st.integers(1, CANVAS)), min_size=1, max_size=6)


def network(kind: type[TrmModel] = TrmModel, **changes: Any) -> RecursiveNetwork:
    own = {name: value for name, value in SIZES.items() if kind is not TransformerModel or name != "H_cycles"}
    made = build_network(kind(**{**own, **changes}), CANVAS, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.puzzle_emb.weights.normal_(generator=torch.Generator().manual_seed(1))
        made.q_head.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
        made.q_head.bias.zero_()  # type: ignore[union-attr]
    made.take_packed()
    return made


def rows_of(shapes: Any, seed: int = 0) -> NewRows:
    rng = np.random.default_rng(seed)
    inputs, labels = rng.integers(0, 12, (2, len(shapes), CANVAS**2)).astype(np.uint8)
    return NewRows(inputs, labels, np.arange(len(shapes)) % 7 + 1, np.array(shapes, dtype=np.int64))


TRM = network().eval()


@pytest.fixture(scope="module")
def rounding() -> float:
    """Largest difference of logits that fp32 rounding explains; at least 1e-5."""
    rows = rows_of([(1, 1), (5, 1), (3, 4), (8, 8)])

    def run() -> dict[str, torch.Tensor]:
        _, output, packed = packed_step(TRM, begun(TRM, rows))
        return {"logits": TRM.lm_head(output.z_H[0, packed.cells]), "q": output.q_halt}

    return max(1e-5, *spread(TRM, run, SIZES["hidden_size"]).values())


@settings(max_examples=15, deadline=None)
@given(SHAPES, st.integers(0, 5))
def test_a_row_has_the_logits_that_it_has_alone_in_any_company(
    rounding: float, shapes: list[tuple[int, int]], seed: int
) -> None:
    assert rounding < 1e-4, "far below what a missing or foreign cell would change"
    rows = rows_of(shapes, seed)
    carry, output, packed = packed_step(TRM, begun(TRM, rows))
    logits = TRM.lm_head(output.z_H[0, packed.cells])
    for number in range(len(shapes)):
        one = rows.part(np.array([number]))
        alone, its, within = packed_step(TRM, begun(TRM, one))
        mine = logits[torch.from_numpy(carry.layout.cells_of(np.array([number])))]
        assert torch.allclose(mine, TRM.lm_head(its.z_H[0, within.cells]), rtol=0, atol=rounding)
        assert torch.allclose(output.q_halt[number], its.q_halt[0], rtol=0, atol=rounding)
        assert len(alone.layout) == 1


def gradients_of(kind: type[TrmModel], precision: str, packs: bool) -> tuple[Any, Any, Any, dict[str, torch.Tensor]]:
    """Losses, output, carry and gradients of a step on three full squares."""
    net, rows = network(kind, precision=precision).train(), rows_of([(CANVAS, CANVAS)] * 3)
    least = torch.tensor([0, 2, 0])
    if packs:
        carry, output, packed = packed_step(net, begun(net, rows), least_steps=least)
        losses = packed_losses(net, output, carry, packed)
    else:
        inputs, labels, ids = (torch.from_numpy(t) for t in (rows.inputs, rows.labels, rows.puzzle_ids))
        carry, output = net.act_step(  # type: ignore[assignment]
            net.initial_carry(3), inputs, ids, labels=labels, least_steps=least, heads=False
        )
        losses = row_losses(net, output, carry.labels)
    losses.total().backward()
    return losses, output, carry, {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_full_squares_equal_the_canvas_bit_for_bit(kind: type[TrmModel]) -> None:
    losses, output, carry, gradients = gradients_of(kind, "fp32", True)
    wanted, expected, plain, others = gradients_of(kind, "fp32", False)
    assert torch.equal(losses.lm, wanted.lm)
    assert torch.equal(output.q_halt, expected.q_halt)
    assert torch.equal(carry.halted, plain.halted)
    assert torch.equal(carry.z_H.view_as(plain.z_H), plain.z_H)
    assert gradients.keys() == others.keys()
    assert all(torch.equal(gradients[name], others[name]) for name in others)


def test_gradients_in_bf16_are_as_near_to_those_in_fp32_as_the_canvas_has_them() -> None:
    """The backward pass of attention takes other products in bf16, which round otherwise, not worse."""
    exact = gradients_of(TrmModel, "fp32", False)[3]
    ours, theirs = (gradients_of(TrmModel, "bf16", packs)[3] for packs in (True, False))
    for name, gradient in exact.items():
        errors = [float((found[name] - gradient).norm() / gradient.norm()) for found in (ours, theirs)]
        assert errors[0] < 1.5 * errors[1] + 2.0**-8, name


def test_a_row_on_a_canvas_of_its_size_has_the_same_answer(rounding: float) -> None:
    square = build_network(TRM.spec, 5, 8)
    square.load_state_dict(TRM.state_dict())
    rows = rows_of([(5, 5), (3, 7), (8, 2)])
    shapes = torch.from_numpy(rows.shapes)
    found = trace(TRM, torch.from_numpy(rows.inputs), torch.from_numpy(rows.puzzle_ids), shapes=shapes)
    corner = torch.from_numpy(rows.inputs[0].reshape(CANVAS, CANVAS)[:5, :5].reshape(1, -1).copy())
    alone = trace(square.eval(), corner, torch.tensor([1]))
    assert torch.equal(found.tokens[0].view(CANVAS, CANVAS)[:5, :5].flatten(), alone.tokens[0])
    assert torch.allclose(found.q_halt[:, 0], alone.q_halt[:, 0], rtol=0, atol=rounding)
    assert torch.equal(found.changed[0], torch.tensor([25, 21, 16], dtype=torch.int32))
    assert not found.tokens[1].view(CANVAS, CANVAS)[3:].any(), "cells outside the rectangle are empty"


def test_cells_outside_the_rectangle_are_not_read() -> None:
    rows = rows_of([(3, 4), (6, 2)])
    other = rows.inputs.copy().reshape(-1, CANVAS, CANVAS)
    other[0, 3:], other[0, :, 4:], other[1, 6:], other[1, :, 2:] = 7, 7, 7, 7
    ids, shapes = torch.from_numpy(rows.puzzle_ids), torch.from_numpy(rows.shapes)
    first, second = (
        TRM.answer(Rows(torch.from_numpy(t.reshape(2, -1)), ids, shapes=shapes)) for t in (rows.inputs, other)
    )
    assert torch.equal(first.tokens, second.tokens)
    assert torch.equal(first.q_halt, second.q_halt)


@pytest.mark.parametrize("kind", KINDS)
def test_kept_rows_keep_their_states_beside_new_ones_of_other_sizes(kind: type[TrmModel]) -> None:
    net, rows = network(kind).train(), rows_of([(3, 4), (8, 8), (1, 1), (4, 3)])
    carry, _, _ = packed_step(net, begun(net, rows), least_steps=torch.zeros(4))
    new = rows_of([(2, 2), (5, 7)], seed=1)
    mixed = exchange(net, carry, np.array([1, 2]), new, np.array([2, 0, 1, 3]))
    before, after, fresh = in_row_order(carry), in_row_order(mixed), in_row_order(begun(net, new))
    assert after["shapes"].tolist() == [[2, 2], [8, 8], [1, 1], [5, 7]]
    assert after["steps"].tolist() == [0, 1, 1, 0]
    assert after["puzzle_ids"].tolist() == [1, 2, 3, 2]
    old, young = 12 + 3, 4 + 3
    for name in ("z_H", "z_L"):
        assert torch.equal(after[name][young : young + 67 + 4], before[name][old : old + 67 + 4])
        assert torch.equal(after[name][:young], fresh[name][:young])
        assert torch.equal(after[name][-38:], fresh[name][-38:])
    assert torch.equal(after["inputs"][4 : 4 + 65], before["inputs"][12 : 12 + 65])
    again = from_row_order(net, after, slice(1, 3))
    assert torch.equal(in_row_order(again)["z_H"], after["z_H"][young : young + 71])
    assert torch.equal(in_row_order(again)["labels"], after["labels"][4 : 4 + 65])


def test_a_state_that_is_not_finite_is_found_in_its_row() -> None:
    carry = begun(TRM, rows_of([(3, 4), (2, 2), (1, 5)]))
    z_L = carry.z_L.clone()
    z_L[0, carry.layout.tokens_of(np.array([2]))[3], 5] = torch.nan
    assert replace(carry, z_L=z_L).finite_rows().tolist() == [True, True, False]
    assert carry.finite_rows().all()


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.integers(0, 3))
def test_a_layout_places_every_token_once_and_by_row_and_column(shapes: list[tuple[int, int]], prefix: int) -> None:
    layout = Layout(np.array(shapes), prefix, CANVAS)
    every = np.arange(len(shapes))
    assert sorted(layout.tokens_of(every)) == list(range(layout.num_tokens))
    assert sorted(layout.cells_of(every)) == list(range(int(layout.num_cells.sum())))
    assert sum(group.rows * group.length for group in layout.groups) == layout.num_tokens
    for number, (rows, columns) in enumerate(shapes):
        own = layout.on_canvas[layout.cells_of(every[number : number + 1])]
        assert own.tolist() == [r * CANVAS + c for r in range(rows) for c in range(columns)]
        places = layout.positions[layout.tokens_of(every[number : number + 1])]
        assert places.tolist() == [*range(prefix), *(prefix + own)]


def test_attention_by_bounds_is_asked_for_the_rows_of_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel for rows of unlike length runs on GPUs alone; here its contract stands in for it."""
    layout = Layout(np.array([(3, 4), (1, 1), (4, 3), (2, 5)]), 3, CANVAS)
    assert TRM.rope is not None
    rope = PackedRope(layout, TRM.rope)
    query, key, value = torch.randn(3, layout.num_tokens, 2, 8, generator=torch.Generator().manual_seed(0))

    def varlen(q: Any, k: Any, v: Any, ends: Any, other: Any, longest: int, most: int) -> Any:
        assert longest == most == int(layout.lengths.max())
        assert torch.equal(ends, other)
        row = torch.bucketize(torch.arange(len(q)), ends[1:], right=True)
        mask = row[:, None] == row[None]
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1)

    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", SimpleNamespace(varlen_attn=varlen))
    masked = attention.mix_by_bounds(query, key, value, rope.ends, int(layout.lengths.max()))
    grouped = mix_by_groups(query, key, value, layout.groups)
    assert torch.allclose(masked, grouped, rtol=0, atol=SAFETY * UNIT * 15)


def test_the_gradient_of_grouped_attention_is_that_of_the_kernel_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = (Group(2, 7), Group(1, 20), Group(3, 33))
    monkeypatch.setattr(attention, "SCORES", 2 * 4 * 33**2)  # the last group in two parts
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4, 133, 4, 16, generator=generator).bfloat16()
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        query, key, value = (t.to(dtype).requires_grad_() for t in values[:3].clone())
        mixed = mix_by_groups(query, key, value, groups)
        mixed.backward(values[3].to(dtype))
        found.append([mixed.detach().float(), *(t.grad.float() for t in (query, key, value) if t.grad is not None)])
    for half, whole in zip(*found, strict=True):
        # bf16 keeps 8 bits; a gradient is a sum of products of values of size about 1
        assert (half - whole).abs().max() < 8 * 2.0**-8 * whole.abs().max()
        assert (half - whole).abs().mean() < 2.0**-8 * whole.abs().mean() * 2


def test_rows_that_halt_leave_a_packed_tile() -> None:
    rows = rows_of([(3, 4), (6, 2), (2, 2), (8, 8), (5, 5), (1, 7)])
    inputs, ids, shapes = (torch.from_numpy(t) for t in (rows.inputs, rows.puzzle_ids, rows.shapes))
    every = trace(TRM, inputs, ids, shapes=shapes)
    halted = TRM.trace_halting(Rows(inputs, ids, shapes=shapes), Halting("score"))
    assert halted.steps.min() < halted.steps.max(), "the case has rows that halt at unlike steps"
    for number in range(len(rows)):
        steps = int(halted.steps[number])
        assert torch.allclose(halted.q_halt[:steps, number], every.q_halt[:steps, number], rtol=0, atol=1e-4)
        assert not halted.q_halt[steps:, number].any()
    answers = answer(TRM, inputs, ids, halting=Halting("score"), shapes=shapes)
    assert torch.equal(answers.tokens, halted.tokens)
    assert torch.equal(answers.steps, halted.steps)


def test_what_belongs_to_a_position_of_a_canvas_is_refused() -> None:
    for changes, named in (({"positions": "learned"}, "learned"), ({"mixing": "mlp"}, "mlp")):
        net = build_network(TrmModel(**{**SIZES, **changes}), CANVAS, 8)
        with pytest.raises(ModelError, match=f"packed rows need .*{named}"):
            net.take_packed()


@pytest.mark.parametrize("name", ["add_norm", "gate", "rotate"])
def test_passes_by_kernels_round_as_the_operators_do_and_have_their_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def values(*shape: int) -> torch.Tensor:
        return (3 * torch.randn(*shape, generator=generator)).bfloat16().requires_grad_()

    given: tuple[torch.Tensor, ...] = {
        "add_norm": lambda: (values(1, 50, 48), values(1, 50, 48)),
        "gate": lambda: (values(1, 50, 96),),
        "rotate": lambda: (values(1, 50, 6, 8), *torch.randn(2, 50, 1, 8, generator=generator)),
    }[name]()
    found = []
    for module in (passes, fused):
        results = getattr(module, name)(*given)
        results = results if isinstance(results, tuple) else (results,)
        weights = [torch.sin(torch.arange(r.numel()).float()).view(r.shape).to(r.dtype) for r in results]
        gradients = torch.autograd.grad([*results], [t for t in given if t.requires_grad], weights)
        found.append([*results, *gradients])
    for ours, theirs in zip(*found, strict=True):
        # sums in another order move a value across the middle between two bf16 numbers now and then
        assert (ours == theirs).float().mean() > 0.99
        assert torch.allclose(ours.float(), theirs.float(), rtol=2.0**-7, atol=2.0**-8)


def test_kernels_pass_on_what_is_not_finite() -> None:
    rows = [[1.0, torch.inf, 2.0, -1.0], [torch.nan, 0.0, 1.0, 1.0], [-torch.inf, 3.0, 88.0, -90.0]]
    x = torch.tensor([rows]).bfloat16()
    zero = torch.zeros_like(x)
    for ours, theirs in ((passes.add_norm(x, zero), fused.add_norm(x, zero)), (passes.gate(x), fused.gate(x))):
        finite = theirs.isfinite()
        assert torch.equal(ours.isfinite(), finite)
        assert torch.equal(ours[finite], theirs[finite])
