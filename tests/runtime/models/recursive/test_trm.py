"""The TRM against its specification: sizes, a hand-written numpy forward, gradient rule, reset, halting, injection."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from rounding import DRAWS, HEADROOM, nearby

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive.carry import Carry, Injection
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM

TINY: dict[str, Any] = {
    "hidden_size": 64,
    "num_heads": 4,
    "layers": 2,
    "H_cycles": 2,
    "L_cycles": 2,
    "expansion": 1.0,
    "puzzle_embedding_len": 2,
    "halt_max_steps": 4,
    "precision": "fp32",
}


def build(canvas: int = 4, num_puzzles: int = 5, seed: int = 0, **changes: Any) -> TRM:
    generator = torch.Generator().manual_seed(seed)
    model = TRM(TrmModel(**{**TINY, **changes}), canvas, num_puzzles, generator=generator)
    with torch.no_grad():
        model.puzzle_emb.weights.normal_(generator=generator)
        model.q_head.weight.normal_(std=0.1, generator=generator)
    return model


def sample(model: TRM, batch: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 12, (batch, model.num_cells), generator=generator, dtype=torch.uint8)
    return tokens, torch.arange(batch) % 4 + 1


@pytest.mark.parametrize(
    ("changes", "canvas", "vocabulary", "parameters"),
    [
        ({}, 30, 12, 6_829_058),
        ({"L_cycles": 6}, 9, 11, 6_828_034),
        ({"mixing": "mlp", "positions": "none"}, 9, 11, 5_028_866),
        ({"mixing": "mlp", "positions": "none"}, 30, 12, 18_801_666),
    ],
)
def test_parameter_counts_equal_the_originals(
    changes: dict[str, Any], canvas: int, vocabulary: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = TRM(TrmModel(**changes), canvas, 3, vocabulary=vocabulary)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_state_names_equal_the_originals() -> None:
    assert set(build().state_dict()) == {
        "H_init",
        "L_init",
        "embed_tokens.embedding_weight",
        "lm_head.weight",
        "q_head.weight",
        "q_head.bias",
        "puzzle_emb.weights",
        *(
            f"L_level.layers.{i}.{part}.weight"
            for i in (0, 1)
            for part in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")
        ),
    }


def _rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def _swiglu(x: np.ndarray, gate_up: np.ndarray, down: np.ndarray) -> np.ndarray:
    y = x @ gate_up.T
    gate, up = y[..., : y.shape[-1] // 2], y[..., y.shape[-1] // 2 :]
    return (gate / (1 + np.exp(-gate)) * up) @ down.T


def _attention(x: np.ndarray, qkv: np.ndarray, out: np.ndarray, heads: int, rope: bool) -> np.ndarray:
    _, length, width = x.shape
    d = width // heads
    q, k, v = (x @ qkv[i * width : (i + 1) * width].T for i in range(3))
    result = np.empty_like(x)
    angle = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, d, 2) / d)[None]
    cos, sin = np.cos(angle), np.sin(angle)

    def turn(t: np.ndarray) -> np.ndarray:
        a, b = t[..., : d // 2], t[..., d // 2 :]
        return np.concatenate((a * cos - b * sin, b * cos + a * sin), -1) if rope else t

    for h in range(heads):
        part = slice(h * d, (h + 1) * d)
        scores = turn(q[..., part]) @ turn(k[..., part]).swapaxes(1, 2) / math.sqrt(d)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        result[..., part] = weights / weights.sum(-1, keepdims=True) @ v[..., part]
    return result @ out.T


def numpy_step(
    model: TRM, w: dict[str, np.ndarray], tokens: np.ndarray, ids: np.ndarray, z_H: np.ndarray, z_L: np.ndarray
) -> dict[str, Any]:
    """One ACT step with weights `w` by the formulas of the paper, in float64."""
    spec = model.spec
    x = w["embed_tokens.embedding_weight"][tokens]
    prefix = np.zeros((len(tokens), model.prefix_len, spec.hidden_size))
    prefix[:, 0] = w["puzzle_emb.weights"][ids]
    x = np.concatenate((prefix, x), 1)
    if spec.positions == "learned":
        x = (x + w["embed_pos.embedding_weight"]) * math.sqrt(0.5)
    x = x * math.sqrt(spec.hidden_size)

    def f(state: np.ndarray, inject: np.ndarray) -> np.ndarray:
        u = state + inject
        for i in range(spec.layers):
            at = f"L_level.layers.{i}."
            if spec.mixing == "attention":
                u = _rms(
                    u
                    + _attention(
                        u,
                        w[at + "self_attn.qkv_proj.weight"],
                        w[at + "self_attn.o_proj.weight"],
                        spec.num_heads,
                        spec.positions == "rope",
                    )
                )
            else:
                t = u.swapaxes(1, 2)
                t = _rms(t + _swiglu(t, w[at + "mlp_t.gate_up_proj.weight"], w[at + "mlp_t.down_proj.weight"]))
                u = t.swapaxes(1, 2)
            u = _rms(u + _swiglu(u, w[at + "mlp.gate_up_proj.weight"], w[at + "mlp.down_proj.weight"]))
        return u

    for _ in range(spec.H_cycles):
        for _ in range(spec.L_cycles):
            z_L = f(z_L, z_H + x)
        z_H = f(z_H, z_L)
    return {
        "z_H": z_H,
        "z_L": z_L,
        "logits": z_H[:, model.prefix_len :] @ w["lm_head.weight"].T,
        "q": z_H[:, 0] @ w["q_head.weight"].T + w["q_head.bias"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mixing": "mlp", "positions": "none"},
        {"positions": "learned"},
        {"H_cycles": 3, "L_cycles": 1, "layers": 1},
        {"puzzle_embedding_len": 1},
    ],
)
def test_two_act_steps_equal_a_numpy_forward(changes: dict[str, Any]) -> None:
    model = build(**changes).eval()
    tokens, ids = sample(model)
    carry = model.initial_carry(3)
    exact = {name: t.double().numpy() for name, t in model.state_dict().items()}
    weights = [exact, *(nearby(exact, model.spec.hidden_size, draw) for draw in range(DRAWS))]
    shape = (3, model.num_positions, 64)
    states = [(np.broadcast_to(w["H_init"], shape), np.broadcast_to(w["L_init"], shape)) for w in weights]
    for _ in range(2):
        carry, output = model.act_step(carry, tokens, ids)
        steps = [numpy_step(model, w, tokens.numpy(), ids.numpy(), *z) for w, z in zip(weights, states, strict=True)]
        states = [(step["z_H"], step["z_L"]) for step in steps]
        q = torch.stack((output.q_halt, output.q_continue), dim=1)
        for name, found in {"logits": output.logits, "q": q, "z_H": carry.z_H, "z_L": carry.z_L}.items():
            wanted, *near = (step[name] for step in steps)
            close(found, wanted, np.stack(near))


def close(found: torch.Tensor, wanted: np.ndarray, near: np.ndarray) -> None:
    """Equal but for fp32 rounding: `near` [draws, ...] is what float64 gives for weights off by as much."""
    error, shift = found.detach().numpy() - wanted, near - wanted
    assert np.sqrt(np.mean(error**2)) < HEADROOM * np.sqrt(np.mean(shift**2))
    assert np.abs(error).max() < HEADROOM * np.abs(shift).max()


def test_puzzle_row_enters_at_position_0_only() -> None:
    model = build(puzzle_embedding_len=3)
    tokens, ids = sample(model)
    rows = model.puzzle_emb(ids)
    with_row, without = model.embed(tokens, ids, rows), model.embed(tokens, ids, torch.zeros_like(rows))
    assert not torch.equal(with_row[:, 0], without[:, 0])
    assert torch.equal(with_row[:, 1:], without[:, 1:])
    assert not with_row[:, 1:3].any()


def test_task_row_is_added_to_the_view_row() -> None:
    model = TRM(TrmModel(**TINY), 4, 4, task_of=[0, 1, 1, 2])
    assert model.puzzle_emb.task_weights is not None
    with torch.no_grad():
        model.puzzle_emb.weights.normal_()
        model.puzzle_emb.task_weights.normal_()
    rows = model.puzzle_emb(torch.tensor([1, 2]))
    expected = model.puzzle_emb.weights[[1, 2]] + model.puzzle_emb.task_weights[[1, 1]]
    assert torch.equal(rows, expected)


@pytest.mark.parametrize(("rounds", "all_rounds", "reaches"), [(3, False, False), (1, False, True), (3, True, True)])
def test_gradient_reaches_an_injected_carry_only_where_rounds_are_differentiated(
    rounds: int, all_rounds: bool, reaches: bool
) -> None:
    model = build(H_cycles=rounds).train()
    tokens, ids = sample(model)
    start = [torch.randn(3, model.num_positions, 64, requires_grad=True) for _ in range(2)]
    _, output = model.act_step(model.initial_carry(3), tokens, ids, Injection(*start), all_rounds)
    output.logits.square().sum().backward()
    for state in start:
        assert (state.grad is not None and bool(state.grad.any())) == reaches


@pytest.mark.parametrize("form", ["carry", "term"])
def test_injection_changes_logits_and_gets_gradient(form: str) -> None:
    model = build(H_cycles=2).eval()
    tokens, ids = sample(model)
    latent = torch.randn(3, model.num_positions, 64, requires_grad=True)
    injection = Injection(latent, latent) if form == "carry" else Injection(term=latent)
    plain = model.act_step(model.initial_carry(3), tokens, ids)[1].logits
    _, output = model.act_step(model.initial_carry(3), tokens, ids, injection, True)
    assert not torch.allclose(plain, output.logits, atol=1e-3)
    output.logits.square().sum().backward()
    assert latent.grad is not None
    assert latent.grad.any()


def test_injected_carry_survives_the_reset_and_leaves_running_rows_alone() -> None:
    model = build()
    tokens, ids = sample(model)
    carry = model.initial_carry(3)
    kept = torch.full_like(carry.z_H, 7.0)
    carry = Carry(
        kept, kept, carry.steps + 2, torch.tensor([True, False, True]), carry.inputs, carry.labels, carry.puzzle_ids
    )
    latent = torch.full_like(kept, 3.0)
    after = model.reset(carry, tokens, ids, tokens, Injection(latent, latent))
    assert torch.equal(after.z_H[[0, 2]], latent[[0, 2]])
    assert torch.equal(after.z_H[1], kept[1])
    assert after.steps.tolist() == [0, 2, 0]
    assert torch.equal(after.inputs[0], tokens[0])
    assert not after.inputs[1].any()
    assert torch.equal(after.labels[2], tokens[2])
    assert after.puzzle_ids.tolist() == [1, 0, 3]


def test_carry_is_detached() -> None:
    model = build().train()
    carry, output = model.act_step(model.initial_carry(3), *sample(model))
    assert output.logits.requires_grad
    assert not carry.z_H.requires_grad
    assert not carry.z_L.requires_grad


def test_evaluation_never_halts_early() -> None:
    model = build().eval()
    with torch.no_grad():
        model.q_head.bias.fill_(50)
    tokens, ids = sample(model)
    carry = model.initial_carry(3)
    for step in range(4):
        carry, _ = model.act_step(carry, tokens, ids)
        assert carry.halted.tolist() == [step == 3] * 3


def test_training_halts_on_the_score_and_exploration_spreads_over_2_to_the_limit() -> None:
    steps = torch.ones(4000, dtype=torch.int32)
    eager = torch.ones(4000, 2)
    greedy = build(halt_exploration=0.0).train()
    assert greedy.halt_rows(steps, eager, None).all()
    assert not greedy.halt_rows(steps, -eager, None).any()
    curious = build(halt_exploration=1.0).train()
    generator = torch.Generator().manual_seed(0)
    shares = [float(curious.halt_rows(steps * k, eager, generator).float().mean()) for k in (1, 2, 3, 4)]
    assert shares[0] == 0
    assert shares[3] == 1
    assert shares[1] == pytest.approx(1 / 3, abs=0.05)
    assert shares[2] == pytest.approx(2 / 3, abs=0.05)


def test_run_equals_act_steps_and_counts_changes() -> None:
    model = build().eval()
    tokens, ids = sample(model)
    traced = trace(model, tokens, ids, steps=3)
    carry, before = model.initial_carry(3), None
    for step in range(3):
        carry, output = model.act_step(carry, tokens, ids)
        guess = output.logits.argmax(-1)
        changed = torch.full((3,), model.num_cells) if before is None else (guess != before).sum(1)
        assert torch.equal(traced.changed[step], changed.int())
        assert torch.equal(traced.q_halt[step], output.q_halt)
        before = guess
    assert torch.equal(traced.tokens.long(), before)
    assert torch.equal(traced.carry.z_H, carry.z_H)
    again = trace(model, tokens, ids, steps=3)
    assert torch.equal(again.tokens, traced.tokens)
    assert torch.equal(again.q_halt, traced.q_halt)


def test_bf16_runs_in_bf16_and_keeps_fp32_masters() -> None:
    model = build(precision="bf16").eval()
    traced = trace(model, *sample(model), steps=1)
    assert traced.carry.z_H.dtype == torch.bfloat16
    assert traced.q_halt.dtype == torch.float32
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_impossible_shapes_are_refused_with_the_numbers() -> None:
    with pytest.raises(ModelError, match="5 heads do not divide hidden_size 64"):
        build(num_heads=5)
    with pytest.raises(ModelError, match="are 33 wide; rope needs a width divisible by 2"):
        build(hidden_size=66, num_heads=2)
