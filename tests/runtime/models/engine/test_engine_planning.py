"""Latent planning: identity at the start, thoughts, gate, merging, losses, and learning to weigh paths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engine_support import engine, rows_for, spec_of, training

from gridloom.runtime.models.engine.planning import Plan, Planner, planner_heads, thought_mask


def planner(**fields: Any) -> Planner:
    return Planner(spec_of(planning=fields), torch.Generator().manual_seed(0))


def states(batch: int = 3, length: int = 5) -> torch.Tensor:
    return torch.randn(batch, length, 32, generator=torch.Generator().manual_seed(1))


def opened(module: Planner) -> Planner:
    torch.nn.init.ones_(module.merge_norm.weight)
    return module


def plan_of(module: Planner, z: torch.Tensor, **kwargs: Any) -> Plan:
    found: Plan = module(z, z.shape[1], None, None, **kwargs)
    return found


def test_at_the_start_the_state_is_left_as_it_is() -> None:
    z = states()
    assert torch.equal(plan_of(planner(gate=False), z).state, z)


def test_the_state_changes_by_the_gate_times_the_merged_paths() -> None:
    module = opened(planner(path_dropout=0.0)).train()
    z = states()
    plan = plan_of(module, z)
    assert torch.allclose(plan.weights.sum(dim=1), torch.ones(3))
    change = (plan.state - z) / plan.gate[:, None, None]
    assert torch.allclose(change.mean(dim=-1), torch.zeros(3, 5), atol=1e-4), "a layer norm of gain 1 and shift 0"
    assert torch.allclose(change.square().mean(dim=-1), torch.ones(3, 5), atol=1e-2)


def test_rows_with_a_closed_gate_skip_the_planner() -> None:
    module = opened(planner()).eval()
    calls: list[int] = []
    module.layers[0].register_forward_hook(lambda _module, inputs, _out: calls.append(len(inputs[0])))
    assert module.gate is not None
    z = states(4)
    with torch.no_grad():
        module.gate[-1].bias.fill_(-20.0)  # type: ignore[operator]
        plan = plan_of(module, z)
        assert not plan.planned.any()
        assert torch.equal(plan.state, z)
        assert calls == []
        module.gate[-1].bias.fill_(20.0)  # type: ignore[operator]
        plan = plan_of(module, z)
        assert plan.planned.all()
        assert calls == [4 * 4]
        assert not torch.allclose(plan.state, z)


def test_the_first_thought_changes_the_second() -> None:
    module = opened(planner(depth=3, gate=False)).eval()
    z = states()
    plain = plan_of(module, z)
    handle = module.layers[0].register_forward_hook(
        lambda _module, _inputs, out: torch.cat((out[:, :-1], torch.zeros_like(out[:, -1:])), dim=1)
    )
    erased = plan_of(module, z)
    handle.remove()
    assert (erased.thoughts[:, :, 0] == 0).all()
    assert not torch.allclose(plain.thoughts[:, :, 1], erased.thoughts[:, :, 1])
    assert not torch.allclose(plain.state, erased.state)


def test_the_gate_starts_open_and_is_charged_once_the_planner_changes_the_state() -> None:
    module = planner().train()
    plan = plan_of(module, states(), generator=torch.Generator().manual_seed(0))
    assert plan.gate.min() > 0.6
    assert module.losses(plan, lambda z: torch.ones(len(z)))[2] == 0
    loss = opened(module).losses(plan, lambda z: torch.ones(len(z)))[2]
    assert loss.item() == pytest.approx(0.01 * plan.gate.mean().item())


def test_the_order_of_the_paths_has_no_effect() -> None:
    module = opened(planner(gate=False)).eval()
    z = states()
    before = plan_of(module, z)
    order = [2, 0, 3, 1]
    module.path.data = module.path.data[order]
    module.path_in = torch.nn.ModuleList([module.path_in[i] for i in order])
    module.path_out = torch.nn.ModuleList([module.path_out[i] for i in order])
    after = plan_of(module, z)
    assert torch.allclose(after.state, before.state, atol=1e-5)
    assert torch.allclose(after.weights, before.weights[:, order], atol=1e-5)


def test_dropped_paths_have_no_weight_and_one_is_always_kept() -> None:
    module = planner(path_dropout=0.9).train()
    plan = plan_of(module, states(200, 2), generator=torch.Generator().manual_seed(0))
    kept = (plan.weights > 0).sum(dim=1)
    assert kept.min() == 1
    assert kept.float().mean() < 1.6
    assert torch.allclose(plan.weights.sum(dim=1), torch.ones(200))


def test_a_closed_slot_is_read_by_no_thought() -> None:
    module = opened(planner(gate=False)).eval()
    z = states()
    valid = torch.tensor([[True, True, True, False, True]]).expand(3, -1)
    one: Plan = module(z, 5, None, valid)
    changed = z.clone()
    changed[:, 3] += 1.0
    other: Plan = module(changed, 5, None, valid)
    assert torch.allclose(one.values, other.values, atol=1e-5)
    assert torch.allclose(one.state[:, :3], other.state[:, :3], atol=1e-5)


def test_thoughts_read_the_question_and_earlier_thoughts_alone() -> None:
    mask = thought_mask(4, 2, 2, torch.ones(4, 4).bool().tril(), None, torch.device("cpu"))
    assert mask is not None
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 1, 1],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 1, 0, 1, 1],
        [1, 1, 1, 1, 1, 1],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize(("width", "heads"), [(1024, 8), (64, 8), (36, 6), (34, 2)])
def test_heads_divide_the_width(width: int, heads: int) -> None:
    assert planner_heads(width) == heads


def test_size_at_width_1024_is_within_five_percent_of_the_original() -> None:
    from gridloom.runtime.models.engine.cost import EngineCost
    from gridloom.runtime.models.kind import RowShape

    spec = spec_of(hidden_size=1024, num_heads=16, planning={})
    assert EngineCost(spec, RowShape(4, 16, 8)).parts()["planning"] == pytest.approx(35_428_866, rel=0.05)


def test_the_value_learns_which_path_is_right() -> None:
    """The paths differ by a fixed vector; only candidates with a positive first feature after it are right."""
    module = planner(path_dropout=0.0, gate=False).train()
    with torch.no_grad():
        module.merge_norm.weight.fill_(0.5)
    z = torch.randn(16, 2, 32, generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)

    def accuracy(candidate: torch.Tensor) -> torch.Tensor:
        return (candidate[:, :, 0].mean(dim=1) > 0).float()

    for _ in range(50):
        plan = plan_of(module, z)
        value, diversity, _ = module.losses(plan, accuracy)
        (10 * value + diversity).backward()
        optimizer.step()
        optimizer.zero_grad()
    plan = plan_of(module, z)
    right = torch.stack([accuracy(plan.candidates[:, p]) for p in range(4)], dim=1).bool()
    assert right.any()
    assert (~right).any()
    better = (plan.values[right][:, None] > plan.values[~right][None]).float().mean()
    assert better > 0.9


def test_the_diversity_loss_pulls_paths_apart() -> None:
    module = planner(path_dropout=0.0, gate=False).train()
    optimizer = torch.optim.AdamW(module.parameters(), 1e-2)
    found = []
    for _ in range(30):
        plan = plan_of(module, states())
        found.append(plan.diversity.item())
        plan.diversity.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert found[-1] < 0.6 * found[0]


def test_planning_trains_with_the_network_and_changes_its_answers() -> None:
    network = engine(planning={}, halt_max_steps=1)
    rows = rows_for(network)
    first = last = 0.0
    for number, (_, _, losses) in enumerate(training(network, rows, 25, lr=5e-3)):
        first = losses.lm.mean().item() if number == 0 else first
        last = losses.lm.mean().item()
    assert last < 0.6 * first
    assert network.planner is not None
    assert network.planner.merge_norm.weight.abs().max() > 0.01
    network.eval()
    with torch.no_grad():
        network.planner.gate[-1].bias.fill_(20.0)  # type: ignore[index,operator]
        on = network.step(rows, network.initial_carry(6))[1].logits
        network.planner.gate[-1].bias.fill_(-20.0)  # type: ignore[index,operator]
        off = network.step(rows, network.initial_carry(6))[1].logits
    assert not torch.allclose(on, off, atol=1e-3)
