"""The adapters: sizes, the plain TRM at step 0, latents that reach the output, gradient to every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import spread

from gridloom.errors import ModelError
from gridloom.runtime.checkpoints.bundle import NETWORK, Bundle, load_bundle, save_bundle
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.adapters.network import LatentToText, TextToLatent
from gridloom.runtime.models.adapters.parts import Standardise, bounded, kl_divergence
from gridloom.runtime.models.adapters.spec import LatentToTextModel, TextToLatentModel
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.runtime.models.recursive.inference import trace
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.recursive.trm import TRM

Mode = Literal["carry", "injection", "cross_attention"]
MODES = ("carry", "injection", "cross_attention")
WIDTH, CANVAS = 24, 4


def tiny_trm(**changes: Any) -> TRM:
    spec = TrmModel(
        hidden_size=32,
        num_heads=2,
        layers=1,
        H_cycles=3,
        L_cycles=2,
        puzzle_embedding_len=3,
        halt_max_steps=2,
        precision="fp32",
        **changes,
    )
    return TRM(spec, CANVAS, 5, generator=torch.Generator().manual_seed(0)).eval()


def bridge_for(trm: TRM, mode: Mode, opened: bool = True, **changes: Any) -> TextToLatent:
    generator = torch.Generator().manual_seed(1)
    spec = TextToLatentModel(
        llm="llama", trm="trm", mode=mode, bottleneck=16, attention_heads=2, attention_layers=1, **changes
    )
    bridge = TextToLatent.build(spec, WIDTH, trm, generator)
    if opened:
        with torch.no_grad():
            bridge.out.weight.normal_(std=0.1, generator=generator)
    return bridge


def states_for(mode: Mode, rows: int, **options: Any) -> torch.Tensor:
    return torch.randn(*((rows, 5, WIDTH) if mode == "cross_attention" else (rows, WIDTH)), **options)


def back_for(trm: TRM, **changes: Any) -> LatentToText:
    spec = LatentToTextModel(trm="trm", llm="llama", bottleneck=16, **changes)
    return LatentToText.build(spec, WIDTH, trm, torch.Generator().manual_seed(2))


def run(trm: TRM, bridge: TextToLatent | None, hidden: torch.Tensor, grad_all_rounds: bool = True) -> torch.Tensor:
    inputs = torch.randint(0, 12, (len(hidden), CANVAS * CANVAS), generator=torch.Generator().manual_seed(3))
    injection = None if bridge is None else bridge(hidden, trm)
    carry = trm.initial_carry(len(hidden))
    _, output = trm.act_step(carry, inputs.to(torch.uint8), torch.arange(len(hidden)), injection, grad_all_rounds)
    return output.logits


@pytest.mark.parametrize(
    ("made", "parameters"),
    [
        (lambda: TextToLatent(mode="carry", bottleneck=1024, hidden_size=4096, positions=900, width=512), 6_168_576),
        (
            lambda: TextToLatent(mode="cross_attention", bottleneck=1024, hidden_size=4096, positions=900, width=512),
            36_482_048,
        ),
        (
            lambda: TextToLatent(
                mode="carry", bottleneck=1024, hidden_size=4096, positions=900, width=512, variational=True
            ),
            10_361_856,
        ),
        (
            lambda: LatentToText(
                pooling="attention", tokens=1, bottleneck=2048, width=512, hidden_size=4096, variational=True
            ),
            11_810_818,
        ),
        (lambda: LatentToText(pooling="attention", tokens=1, bottleneck=2048, width=512, hidden_size=4096), 10_759_170),
        (lambda: LatentToText(pooling="mean", tokens=1, bottleneck=2048, width=512, hidden_size=4096), 10_496_000),
    ],
)
def test_parameter_counts_at_llama_8b_and_the_full_trm(made: Any, parameters: int) -> None:
    with torch.device("cpu"):
        assert sum(p.numel() for p in made().parameters()) == parameters


@pytest.mark.parametrize("mode", MODES)
def test_fresh_adapter_leaves_the_trm_as_it_is(mode: Mode) -> None:
    trm, hidden = tiny_trm(), 30 * states_for(mode, 3)
    assert torch.equal(run(trm, bridge_for(trm, mode, opened=False), hidden), run(trm, None, hidden))


@pytest.mark.parametrize("mode", MODES)
def test_another_hidden_state_gives_other_logits(mode: Mode) -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, mode)
    hidden = states_for(mode, 3)
    changed = hidden.clone()
    changed[1] += 1.0
    first, second = run(trm, bridge, hidden).detach(), run(trm, bridge, changed).detach()
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert float((first[1] - second[1]).abs().max()) > 1e-3
    assert float((first - run(trm, None, hidden).detach()).abs().max()) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_latent_survives_all_act_steps_of_inference(mode: Mode) -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, mode)
    inputs, ids = torch.zeros(1, CANVAS * CANVAS, dtype=torch.uint8), torch.tensor([1])
    one, other = (trace(trm, inputs, ids, bridge(states_for(mode, 1), trm)).carry.z_H for _ in range(2))
    assert float((one - other).abs().max()) > 1e-3


@pytest.mark.parametrize("mode", MODES)
def test_loss_reaches_every_adapter_weight_and_the_hidden_state(mode: Mode) -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, mode)
    hidden = states_for(mode, 2, requires_grad=True)
    run(trm, bridge, hidden).square().sum().backward()
    # a key's bias moves every score of a query alike, and the softmax not at all; rounding leaves next to nothing
    silent = [
        name
        for name, p in bridge.named_parameters()
        if (p.grad is None or not bool(p.grad.any())) and not name.endswith("key.bias")
    ]
    assert silent == []
    assert hidden.grad is not None
    assert bool(hidden.grad.any())


@pytest.mark.parametrize("mode", MODES)
def test_fresh_adapter_gets_gradient_where_it_can_open(mode: Mode) -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, mode, opened=False)
    run(trm, bridge, states_for(mode, 2)).square().sum().backward()
    assert bridge.out.weight.grad is not None
    assert bool(bridge.out.weight.grad.any())


def test_initial_carry_gets_no_gradient_through_rounds_without_autograd() -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, "carry")
    run(trm, bridge, torch.randn(2, WIDTH), grad_all_rounds=False).square().sum().backward()
    assert bridge.out.weight.grad is None


def test_positions_differ_and_interact_with_the_text() -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, "carry")
    deltas = bridge.deltas(torch.randn(2, WIDTH))
    between = (deltas[0] - deltas[1]).detach()
    assert deltas.shape == (2, trm.num_positions, 2 * trm.spec.hidden_size)
    assert float(between.std(dim=0).mean()) > 0.05 * float(between.abs().mean())


@given(scale=st.floats(1e-4, 1e4), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_injected_terms_never_leave_the_range_of_the_states(scale: float, seed: int) -> None:
    x = scale * torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(seed))
    rms = bounded(x).square().mean(dim=-1).sqrt()
    before = x.square().mean(dim=-1).sqrt()
    assert bool((rms < 1.0001).all())
    torch.testing.assert_close(rms, before / (1 + before.square()).sqrt())


def test_attention_weights_sum_to_one_and_pool_each_state_by_itself() -> None:
    trm = tiny_trm()
    back = back_for(trm)
    z_H, z_L = torch.randn(2, 2, trm.num_positions, 32).unbind(0)
    for pool, states in ((back.pool_H, z_H), (back.pool_L, z_L)):
        weights = pool.weights(states)  # type: ignore[operator]
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2))
        assert float(weights.detach().std()) > 0
    torch.testing.assert_close(back_for(trm, pooling="mean").pool_H(z_H), z_H.mean(dim=1))
    assert not torch.allclose(back(z_H, z_L), back(z_L, z_H))


@pytest.mark.parametrize("pooling", ["mean", "attention"])
@pytest.mark.parametrize("tokens", [1, 3])
def test_carry_becomes_prefix_tokens_with_gradient_to_every_weight(pooling: str, tokens: int) -> None:
    trm = tiny_trm()
    back = back_for(trm, pooling=pooling, tokens=tokens)
    prefix = back(torch.randn(2, trm.num_positions, 32), torch.randn(2, trm.num_positions, 32))
    assert prefix.shape == (2, tokens, WIDTH)
    prefix.square().sum().backward()
    # the softmax does not move when every score moves by the same bias
    silent = [name for name, p in back.named_parameters() if not bool(p.grad.any()) and not name.endswith("score.bias")]
    assert silent == []


def test_bridge_ignores_padded_states() -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, "cross_attention")
    states = torch.randn(2, 5, WIDTH)
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    padded = states.clone()
    padded[0, :2] = 100.0
    torch.testing.assert_close(bridge(padded, trm, mask).z_H, bridge(states, trm, mask).z_H)
    bound = spread(bridge, lambda: {"z_H": bridge(states, trm, mask).z_H}, WIDTH)["z_H"]
    torch.testing.assert_close(bridge(states[:1, 2:], trm).z_H, bridge(states, trm, mask).z_H[:1], atol=bound, rtol=0)
    moved = states.clone()
    moved[1, 0] += 1.0
    assert not torch.allclose(bridge(moved, trm, mask).z_H[1], bridge(states, trm, mask).z_H[1], atol=1e-5)


def test_variational_adapter_samples_by_its_generator_and_is_its_mean_without() -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, "carry", variational=True)
    hidden = torch.randn(4, WIDTH)
    one, same, other = (bridge.inject(hidden, trm, generator=torch.Generator().manual_seed(s)) for s in (7, 7, 8))
    assert torch.equal(one.injection.z_H, same.injection.z_H)
    assert not torch.allclose(one.injection.z_H, other.injection.z_H, atol=1e-4)
    assert torch.equal(bridge(hidden, trm).z_H, bridge(hidden, trm).z_H)
    (run(trm, bridge, hidden).square().sum() + one.kl).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in bridge.parameters())


@given(scale=st.floats(0, 10), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_divergence_is_never_negative_and_zero_at_the_prior(scale: float, seed: int) -> None:
    mean, log_variance = scale * torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(seed))
    assert float(kl_divergence(mean, log_variance)) >= -1e-5
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    exact = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(dim=-1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), exact, rtol=1e-3, atol=1e-4)
    assert float(kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3))) == 0.0


def test_linear_projection_adds_one_vector_at_every_position() -> None:
    trm = tiny_trm()
    bridge = bridge_for(trm, "injection", projection="linear")
    term = bridge(torch.randn(2, WIDTH), trm).term
    assert term.shape == (2, trm.num_positions, 32)
    assert torch.equal(term, term[:, :1].expand_as(term))
    assert [name for name, _ in bridge.named_parameters()] == ["out.weight"]


def test_standardised_states_differ_where_raw_ones_are_nearly_parallel() -> None:
    states = 50 * torch.randn(1, WIDTH) + torch.randn(40, WIDTH) * torch.linspace(0.01, 1, WIDTH)
    standardise = Standardise(WIDTH)
    assert torch.equal(standardise(states), states)
    standardise.fit(states)
    cosine = torch.nn.functional.cosine_similarity(states[:20], states[20:]).mean()
    assert float(cosine) > 0.9
    after = torch.nn.functional.cosine_similarity(standardise(states[:20]), standardise(states[20:])).mean()
    assert abs(float(after)) < 0.3
    assert float(standardise(states).std(dim=0, correction=0).max()) < 1.0001
    standardise.fit(states[:1])
    assert not standardise(states[:1]).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "cross_attention", "variational": True}, "goes with neither"),
        ({"mode": "carry", "variational": True, "projection": "linear"}, "no bottleneck"),
        ({"mode": "cross_attention", "bottleneck": 12, "attention_heads": 5}, "attention_heads 5 does not divide"),
    ],
)
def test_settings_that_exclude_one_another_are_refused(changes: dict[str, Any], message: str) -> None:
    spec = TextToLatentModel(llm="llama", trm="trm", **changes)
    with pytest.raises(ModelError, match=message):
        TextToLatent.build(spec, WIDTH, tiny_trm())


def test_one_state_and_token_states_are_not_mixed_up() -> None:
    trm = tiny_trm()
    with pytest.raises(ModelError, match="carry adapter reads one state a row"):
        bridge_for(trm, "carry")(torch.zeros(1, 5, WIDTH), trm)
    with pytest.raises(ModelError, match="cross_attention adapter reads token states"):
        bridge_for(trm, "cross_attention")(torch.zeros(1, WIDTH), trm)


def test_other_widths_are_refused_in_words() -> None:
    trm = tiny_trm()
    with pytest.raises(ModelError, match="25 wide, the adapter was made for 24"):
        bridge_for(trm, "carry")(torch.zeros(1, 25), trm)
    other = TRM(trm.spec, CANVAS + 1, 5)
    with pytest.raises(ModelError, match="writes 19 positions of width 32, the TRM has 28 of 32"):
        bridge_for(trm, "carry")(torch.zeros(1, WIDTH), other)
    with pytest.raises(ModelError, match="31 wide, the adapter was made for 32"):
        back_for(trm)(torch.zeros(1, 4, 31), torch.zeros(1, 4, 31))


def test_bundle_gives_the_same_adapters_back(tmp_path: Path) -> None:
    trm = tiny_trm()
    bridge, back = bridge_for(trm, "injection"), back_for(trm, tokens=2)
    ids = PuzzleIds.of([f"t|||t{i}|||0123456789" for i in range(4)])
    save_bundle(
        tmp_path,
        Bundle({NETWORK: trm, "text_to_latent": bridge, "latent_to_text": back}, puzzle_ids=ids, llm_spec=LlamaModel()),
    )
    loaded = load_bundle(tmp_path)
    hidden, z = torch.randn(2, WIDTH), torch.randn(2, trm.num_positions, 32)
    assert loaded.part("text_to_latent") is not None
    assert loaded.part("latent_to_text") is not None
    assert torch.equal(loaded.part("text_to_latent")(hidden, loaded.network).term, bridge(hidden, trm).term)
    assert torch.equal(loaded.part("latent_to_text")(z, z), back(z, z))


def test_configuration_of_another_version_is_refused() -> None:
    with pytest.raises(ModelError, match="TextToLatent configuration does not fit"):
        TextToLatent.from_config({"mode": "carry", "heads": 3})
