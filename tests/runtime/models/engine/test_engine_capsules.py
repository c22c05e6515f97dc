"""Vision encoder and capsules: shapes, input injection, pooling, checksums, expansion, the halting gate, unified."""

from __future__ import annotations

import torch
from engine_support import CAPSULES, DQN, GRID, VISION, engine, rows_for, training

from gridloom.runtime.models.engine.capsules import grid_weights, hierarchy_bias
from gridloom.runtime.models.engine.halting import Action
from gridloom.runtime.models.steps import Halting


def test_an_image_becomes_capsules_children_and_checksums() -> None:
    network = engine(vision={"layers": 1, "L_cycles": 1}, capsules={"checksum_threshold": -1.0})
    rows = rows_for(network, 2)
    states, found = network.encode(rows.inputs)
    assert states.shape == (2, 1, 196, 32)
    assert found is not None
    assert found.sketches.shape == (2, 12, 32)
    assert found.checksums.shape == found.targets.shape == (2, 12, 32)
    assert found.children.shape == (2, 12, 4, 32)
    assert found.attention.shape == (2, 12, 196)
    assert torch.allclose(found.attention.sum(dim=-1), torch.ones(2, 12), atol=1e-5)
    assert torch.allclose(found.targets.norm(dim=-1), torch.ones(2, 12), atol=1e-5)


def test_the_pool_gets_its_gradient_from_the_children() -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "open": "all"})
    _, found = network.encode(rows_for(network).inputs)
    assert found is not None
    assert network.capsules is not None
    assert network.capsules.pool is not None
    found.children.square().sum().backward()
    assert network.capsules.pool.weight.grad is not None
    assert network.capsules.pool.weight.grad.abs().max() > 0


def test_the_input_is_injected_in_every_cycle() -> None:
    network = engine(vision={**VISION, "H_cycles": 2, "L_cycles": 2}).eval()
    assert network.vision is not None
    assert network.drawing is not None
    patches = network.drawing(rows_for(network).inputs)
    with torch.no_grad():
        states = network.vision(patches, network.L_level, None, torch.float32)
        stack = network.vision.stack
        assert stack is not None
        from gridloom.runtime.models.engine.layers import Place

        x = (network.vision.patch_proj(2 * patches - 1) + network.vision.places).flatten(0, 1)
        x = network.vision.norm(x)
        z_H, z_L = network.vision.H_init.expand_as(x), network.vision.L_init.expand_as(x)
        kept = []
        for inject in (x, torch.zeros_like(x)):
            z, latent = z_H, z_L
            for cycle in range(2):
                for _ in range(2):
                    latent = stack(latent, z + (x if cycle == 0 else inject), Place())
                z = stack(z, latent, Place())
            kept.append(z)
    assert torch.allclose(kept[0], states[:, 0], atol=1e-5)
    assert not torch.allclose(kept[1], kept[0], atol=1e-3)


def test_average_pooling_takes_means_over_a_grid() -> None:
    weights = grid_weights(4, 2, 2)
    image = torch.arange(16.0)
    assert (weights @ image).tolist() == [2.5, 4.5, 10.5, 12.5]
    network = engine(vision=VISION, capsules={**CAPSULES, "pooling": "average", "grid": [2, 2]}).eval()
    states, found = network.encode(rows_for(network).inputs)
    assert found is not None
    assert torch.allclose(found.sketches, weights @ states[:, 0], atol=1e-5)


def test_checksums_learn_what_the_children_look_like() -> None:
    generator = torch.Generator().manual_seed(3)
    network = engine(GRID._replace(vocabulary=12), vision={**VISION, "patch": 16}, capsules=CAPSULES)
    assert network.capsules is not None
    inputs = torch.randint(2, 12, (24, 16), generator=generator, dtype=torch.uint8)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(50):
        _, found = network.encode(inputs)
        assert found is not None
        network.capsules.losses(found)[0].mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    _, found = network.eval().encode(inputs)
    assert found is not None
    right = found.reconstructability.mean()
    shuffled = torch.nn.functional.cosine_similarity(found.checksums.roll(1, dims=0), found.targets, dim=-1).mean()
    assert right > 0.6
    assert right - shuffled > 0.3


def test_opening_a_capsule_shows_its_children_and_keeps_every_sketch() -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "open": "learned"}, dqn=DQN).eval()
    rows = rows_for(network, 2)
    _, found = network.encode(rows.inputs)
    assert found is not None
    assert network.capsules is not None
    opened = torch.tensor([[False, True, False, False], [False] * 4])
    slots, valid = network.capsules.fill_slots(found, opened)
    assert valid is not None
    assert slots.shape == (2, 4 + 8, 32)
    assert valid[0].tolist() == [True] * 4 + [False, False, True, True] + [False] * 4
    assert valid[1].tolist() == [True] * 4 + [False] * 8


def test_a_closed_child_is_not_read() -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "open": "learned"}, dqn=DQN).eval()
    rows = rows_for(network, 2)
    assert network.capsules is not None

    def logits(opened: bool) -> torch.Tensor:
        carry = network.initial_carry(2)
        carry = type(carry)(**{n: getattr(carry, n) for n in carry.__slots__} | {"halted": torch.zeros(2).bool()})
        carry.opened[:, 1] = opened
        return network.step(rows, carry)[1].logits

    with torch.no_grad():
        closed, shown = logits(False), logits(True)
        network.capsules.child_proj.bias += 1.0  # type: ignore[operator]
        assert torch.allclose(logits(False), closed, atol=1e-6)
        assert not torch.allclose(logits(True), shown, atol=1e-3)


def test_the_hierarchy_links_a_capsule_and_its_children_alone() -> None:
    bias = hierarchy_bias(3, 2)
    assert bias.shape == (9, 9)
    assert bias[1, 5:7].tolist() == [2.0, 2.0]
    assert bias[5:7, 1].tolist() == [1.5, 1.5]
    assert bias[5, 6] == bias[6, 5] == 0.5
    linked = {(p, 3 + 2 * p + c) for p in range(3) for c in range(2)}
    linked |= {(b, a) for a, b in linked} | {(3 + 2 * p + c, 4 + 2 * p - c) for p in range(3) for c in range(2)}
    assert {tuple(place) for place in bias.nonzero().tolist()} == linked


def test_a_halt_is_refused_below_the_checksum_threshold_and_granted_at_the_last_step() -> None:
    steps = {}
    for threshold in (-1.0, 1.0):
        network = engine(vision=VISION, capsules={**CAPSULES, "checksum_threshold": threshold}).eval()
        with torch.no_grad():
            network.q_head.bias.fill_(10.0)  # type: ignore[union-attr]
        steps[threshold] = network.answer(rows_for(network), halting=Halting("score")).steps.tolist()
        training_steps = [c.steps[c.halted].tolist() for c, _, _ in training(network, rows_for(network), 3)]
        assert training_steps[2] == ([1] * 6 if threshold < 0 else [3] * 6)
    assert steps == {-1.0: [1] * 6, 1.0: [3] * 6}


def test_a_refused_halt_is_stored_as_a_further_step() -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "checksum_threshold": 1.0}, dqn={**DQN, "epsilon": 0.0})
    assert network.halting_q is not None
    with torch.no_grad():
        network.halting_q.q[-1].bias.copy_(torch.tensor([0.0, 5.0]))  # type: ignore[operator]
    *_, (carry, _, _) = training(network, rows_for(network), 2, lr=0.0)
    assert carry.action[:, 0].tolist() == [int(Action.CONTINUE)] * 6
    assert network.halting_q.replay.action[:6].tolist() == [int(Action.CONTINUE)] * 6
    assert not carry.halted.any()


def test_one_stack_encodes_and_reasons_with_unified() -> None:
    apart, unified = (engine(vision=VISION, capsules=CAPSULES, unified=flag) for flag in (False, True))
    count = [sum(p.numel() for p in net.parameters()) for net in (apart, unified)]
    assert apart.vision is not None
    assert apart.vision.stack is not None
    assert count[1] == count[0] - sum(p.numel() for p in apart.vision.stack.parameters()) + 2 * 32
    before = unified.L_level.layers[0].mlp.down_proj.weight.detach().clone()
    _, found = unified.encode(rows_for(unified).inputs)
    assert found is not None
    found.sketches.square().sum().backward()
    optimizer = torch.optim.SGD(unified.parameters(), 0.1)
    optimizer.step()
    assert not torch.equal(unified.L_level.layers[0].mlp.down_proj.weight, before)


def test_the_row_reaches_the_network_through_its_image() -> None:
    network = engine(vision=VISION, capsules=CAPSULES).eval()
    rows = rows_for(network)
    answers = network.answer(rows)
    assert network.drawing is not None
    with torch.no_grad():
        network.drawing.colours.zero_()
    blank = network.answer(rows)
    assert blank.loss is not None
    assert answers.loss is not None
    assert not torch.allclose(blank.loss, answers.loss)
    assert torch.equal(blank.tokens, blank.tokens[:1].expand(6, -1)), "rows differ by their image alone"
