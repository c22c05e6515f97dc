"""Engine: equal to a TRM without parts, shared key-value heads, deep supervision, recomputation, decoder, spec."""

from __future__ import annotations

import itertools

import pytest
import torch
from engine_support import CAPSULES, DQN, EVERYTHING, GRID, VISION, engine, rows_for, spec_of, training

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.models.engine.body import supervised_cycles
from gridloom.runtime.models.engine.spec import PARTS
from gridloom.runtime.models.kind import MODELS, RowShape, network_cost
from gridloom.runtime.models.recursive.spec import TrmModel
from gridloom.runtime.models.steps import Halting, Rows

SECTIONS = {name: value for name, value in EVERYTHING.items() if name in PARTS}


@pytest.mark.parametrize("positions", ["rope", "rope_2d", "learned", "none"])
@pytest.mark.parametrize("prefix", [0, 2])
def test_without_parts_weights_and_answers_are_those_of_a_trm(positions: str, prefix: int) -> None:
    fields = {"positions": positions, "puzzle_embedding_len": prefix}
    ours = engine(**fields)
    values = spec_of(**fields).model_dump(mode="json")
    trm_fields = {name: values[name] for name in TrmModel.model_fields if name != "kind"}
    kind = MODELS.get("trm")
    theirs = kind.builder().for_rows(
        kind.spec.from_json_values({"kind": "trm", **trm_fields}),
        GRID,
        PuzzleIds.of(()),
        generator=torch.Generator().manual_seed(0),
    )
    assert {n: t.shape for n, t in ours.state_dict().items()} == {n: t.shape for n, t in theirs.state_dict().items()}
    assert all(torch.equal(t, theirs.state_dict()[n]) for n, t in ours.state_dict().items())
    rows = rows_for(ours)
    found, wanted = ours.eval().trace(rows), theirs.eval().trace(rows)
    assert torch.equal(found.tokens, wanted.tokens)
    assert torch.allclose(found.carry.z_H, wanted.carry.z_H, atol=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_shared_key_value_heads_change_the_projection_by_the_computed_amount(heads: int) -> None:
    whole, shared = engine(), engine(num_key_value_heads=heads)
    width, head_width = 32, 8
    saved = 2 * (4 - heads) * head_width * width
    count = [sum(p.numel() for p in net.parameters()) for net in (whole, shared)]
    assert count[0] - count[1] == saved
    assert network_cost(shared.spec, GRID).parameters == count[1]


def test_shared_key_value_heads_attend_as_repeated_heads() -> None:
    shared = engine(num_key_value_heads=2).eval()
    whole = engine().eval()
    for name, tensor in shared.state_dict().items():
        if name.endswith("qkv_proj.weight"):
            query, key, value = tensor.split([32, 16, 16])
            repeated = [part.view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32) for part in (key, value)]
            tensor = torch.cat((query, *repeated))
        whole.state_dict()[name].copy_(tensor)
    rows = rows_for(shared)
    assert torch.allclose(shared.trace(rows).carry.z_H, whole.trace(rows).carry.z_H, atol=1e-5)


@pytest.mark.parametrize(
    ("cycles", "steps", "wanted"),
    [(1, 3, ()), (2, 3, (0,)), (5, 3, (0, 1, 3)), (5, 99, (0, 1, 2, 3)), (5, 1, (3,)), (7, 2, (2, 5))],
)
def test_supervised_cycles_are_evenly_spaced_before_the_last(cycles: int, steps: int, wanted: tuple[int, ...]) -> None:
    assert supervised_cycles(cycles, steps) == wanted


def test_deep_supervision_is_half_the_last_cycle_and_half_the_mean_of_earlier_ones() -> None:
    network = engine(H_cycles=3, deep_supervision={"steps": 2})
    rows = rows_for(network)
    _, output, losses = next(training(network, rows, 1))
    assert len(output.earlier) == 2
    assert rows.labels is not None
    earlier = [network.answer_loss(network.predict(z), rows.labels) for z in output.earlier]
    assert torch.allclose(losses.supervised, (losses.lm + (earlier[0] + earlier[1]) / 2) / 2, atol=1e-6)
    plain = engine(H_cycles=3)
    next(training(plain, rows, 1))
    name = "L_level.layers.0.mlp.down_proj.weight"
    grads = [dict(net.named_parameters())[name].grad for net in (network, plain)]
    assert grads[0] is not None
    assert grads[1] is not None
    assert not torch.allclose(grads[0], grads[1])


def test_only_the_last_cycle_is_differentiated() -> None:
    network = engine(H_cycles=2, L_cycles=2).train()
    calls: list[bool] = []
    network.L_level.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    network.step(rows_for(network), network.initial_carry(6), generator=torch.Generator())
    assert calls == [False] * 3 + [True] * 3


def test_recomputed_activations_give_the_same_gradients() -> None:
    kept, recomputed = engine(), engine(gradient_checkpointing=True)
    for network in (kept, recomputed):
        next(training(network, rows_for(network), 1))
    for (name, one), other in zip(kept.named_parameters(), recomputed.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(one.grad, other.grad, atol=1e-6), name


@pytest.mark.parametrize("parts", [{}, {"planning": {}}, {"vision": VISION, "capsules": CAPSULES}])
def test_a_decoder_never_reads_the_token_it_predicts_or_later_ones(parts: dict[str, object]) -> None:
    network = engine(decoder={}, **parts).eval()
    if network.planner is not None:
        torch.nn.init.ones_(network.planner.merge_norm.weight)
    rows = rows_for(network, 2)
    assert rows.labels is not None
    changed = rows.labels.clone()
    changed[:, 9] = changed[:, 9] % 6 + 2
    assert not torch.equal(changed, rows.labels)

    def logits(labels: torch.Tensor) -> torch.Tensor:
        carry = network.initial_carry(2)
        for _ in range(3):
            carry, output = network.step(Rows(rows.inputs, rows.puzzle_ids, labels), carry)
        return output.logits

    with torch.no_grad():
        one, other = logits(rows.labels), logits(changed)
    assert torch.allclose(one[:, :10], other[:, :10], atol=1e-5)
    assert not torch.allclose(one[:, 10], other[:, 10], atol=1e-4)


def test_decoded_tokens_are_the_most_likely_ones_after_their_own_prefix() -> None:
    network = engine(decoder={}).eval()
    rows = rows_for(network, 3)
    tokens = network.answer(Rows(rows.inputs, rows.puzzle_ids)).tokens
    carry = network.initial_carry(3)
    with torch.no_grad():
        for _ in range(3):
            carry, output = network.step(Rows(rows.inputs, rows.puzzle_ids, tokens), carry)
    assert torch.equal(output.logits.argmax(dim=-1).to(torch.uint8), tokens)
    with_labels = network.answer(rows)
    assert torch.equal(with_labels.tokens, tokens), "labels must not be read by the answer"
    assert with_labels.loss is not None


@pytest.mark.parametrize("parts", [{}, SECTIONS])
def test_a_row_alone_has_the_answer_it_has_in_a_batch(parts: dict[str, object]) -> None:
    network = engine(**parts).eval()
    if network.planner is not None:
        torch.nn.init.ones_(network.planner.merge_norm.weight)
    rows = rows_for(network, 4)
    assert rows.labels is not None
    carry, output = network.initial_carry(4), None
    alone = network.initial_carry(1)
    with torch.no_grad():
        for _ in range(3):
            carry, output = network.step(rows, carry)
            alone, one = network.step(Rows(rows.inputs[2:3], rows.puzzle_ids[:1], rows.labels[2:3]), alone)
    assert output is not None
    assert torch.allclose(output.logits[2], one.logits[0], atol=1e-5)


def test_act_steps_are_counted_once_and_end_at_the_limit() -> None:
    network = engine(halt_max_steps=5).eval()
    calls: list[int] = []
    network.q_head.register_forward_hook(lambda *_: calls.append(1))
    assert network.answer(rows_for(network)).steps.tolist() == [5] * 6
    assert len(calls) == 5
    with torch.no_grad():
        network.q_head.bias.fill_(10.0)  # type: ignore[union-attr]
    assert network.answer(rows_for(network), halting=Halting("score")).steps.tolist() == [1] * 6


@pytest.mark.parametrize(
    "names", [names for count in (1, 2) for names in itertools.combinations(SECTIONS, count)] + [tuple(SECTIONS)]
)
def test_the_cost_counts_every_weight_of_every_part(names: tuple[str, ...]) -> None:
    fields = {name: SECTIONS[name] for name in names}
    spec = spec_of(**fields)
    if list(spec.problems()):
        with pytest.raises(ModelError):
            engine(**fields)
        return
    for vocabulary, rows in ((8, GRID), (8, RowShape(0, 9, 8))):
        if "vision" in names and not rows.canvas:
            continue
        network = engine(rows, **fields)
        assert network_cost(spec, rows).parameters == sum(p.numel() for p in network.parameters()), vocabulary


def test_operations_of_the_cost_are_those_of_the_matrix_products() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    parts = {
        "num_key_value_heads": 2,
        "vision": VISION,
        "capsules": {**CAPSULES, "open": "all", "hierarchy": False},
        "planning": {},
        "dqn": DQN,
    }
    network = engine(**parts).eval()
    rows = rows_for(network, 6)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.planner.gate[-1].bias.fill_(9.0)  # type: ignore[index,operator,union-attr]
        network.step(rows, network.initial_carry(6))
    counted = counter.get_total_flops()
    assert network_cost(network.spec, GRID).act_step(6).forward == pytest.approx(counted, rel=0.03)


def test_every_weight_gets_a_gradient_with_every_part() -> None:
    network = engine(**{**EVERYTHING, "memory": {"capacity": 16, "heads": 4, "reward_threshold": -1.0, "dropout": 0.0}})
    rows = rows_for(network)
    other = rows_for(network, seed=5)
    seen: set[str] = set()
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    carry = network.initial_carry(6)
    for step in range(16):
        network.optimizer_step = step
        carry, output = network.train().step(other if step < 4 else rows, carry, generator=generator)
        losses = network.losses(output, carry)
        losses.total().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name
            if parameter.grad is not None and bool(parameter.grad.any()):
                seen.add(name)
        optimizer.step()
        optimizer.zero_grad()
    assert {name for name, _ in network.named_parameters()} - seen == set()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"multi_token": {}}, "multi_token without decoder"),
        ({"capsules": {}}, "capsules without vision"),
        ({"unified": True}, "unified without vision"),
        ({"vision": VISION, "concepts": {}}, "concepts without capsules"),
        ({"num_key_value_heads": 3}, "3 heads of keys and values do not divide the 4 heads"),
        ({"memory": {"heads": 5}}, "5 heads of the memory"),
        ({"vision": {**VISION, "patch": 7}}, "patches of 7 pixels"),
        ({"vision": VISION, "puzzle_embedding_len": 2}, "puzzle prefix with vision"),
        ({"vision": VISION, "positions": "rope_2d"}, "rope_2d with vision"),
        ({"vision": {**VISION, "layers": 2}, "unified": True}, "is unified"),
        ({"vision": VISION, "capsules": {**CAPSULES, "pooling": "average"}}, "a grid of 3 x 4 is not 4 capsules"),
        ({"vision": VISION, "capsules": {**CAPSULES, "open": "learned"}}, "without dqn"),
        ({"vision": VISION, "capsules": {**CAPSULES, "children": 17}}, "17 children exceed the 16 patches"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        engine(**fields)


def test_rows_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(ModelError, match="these rows are vectors"):
        engine(RowShape(0, 4, 2, 3))
    with pytest.raises(ModelError, match="no grid to draw"):
        engine(RowShape(0, 10, 8), vision=VISION)
    with pytest.raises(ModelError, match="reads rows of 16 tokens, not 9"):
        engine().initial_carry(2, num_cells=9)


def test_a_saved_engine_continues_bit_for_bit() -> None:
    rows = rows_for(engine())
    whole = [losses.total().item() for _, _, losses in training(engine(**EVERYTHING), rows, 8)]
    first = engine(**EVERYTHING)
    generator = torch.Generator().manual_seed(2)
    optimizer = torch.optim.AdamW(first.parameters(), 1e-3)
    carry, found = first.initial_carry(6), []
    network = first
    for step in range(8):
        if step == 4:
            network = engine(seed=9, **EVERYTHING)
            network.load_state_dict(first.state_dict())
            states = optimizer.state_dict()
            optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
            optimizer.load_state_dict(states)
        network.optimizer_step = step
        carry, output = network.train().step(rows, carry, generator=generator)
        losses = network.losses(output, carry)
        (losses.total() / 6).backward()
        found.append(losses.total().item())
        optimizer.step()
        optimizer.zero_grad()
    assert found == whole
