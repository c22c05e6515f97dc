"""Learned halting: the stopping problem, targets, exploration, replay with priorities, curiosity, stored actions."""

from __future__ import annotations

import pytest
import torch
from engine_support import CAPSULES, DQN, VISION, engine, rows_for, spec_of, training

from gridloom.runtime.models.engine.curiosity import CountBonus, DistillationBonus
from gridloom.runtime.models.engine.halting import Action, HaltingQ
from gridloom.runtime.models.engine.replay import Replay
from gridloom.runtime.models.steps import Halting

NEVER = torch.zeros(1, dtype=torch.bool)


def dqn(**fields: object) -> HaltingQ:
    spec = spec_of(halt_max_steps=8, dqn={**DQN, **fields})
    return HaltingQ(spec, torch.Generator().manual_seed(0))


def test_the_stopping_problem_with_a_known_solution_is_learnt() -> None:
    """Accuracy is 0 before step 3 and 1 from it on, T = 8. Best: go on twice, halt at step 3."""
    part = dqn(capacity=512, min_size=1, batch=128, hidden=32, tau=0.05)
    features = part.width + 3

    def state(t: int) -> torch.Tensor:
        found = torch.zeros(1, features)
        found[0, t] = 4.0
        return found

    for t in range(1, 8):
        now, after = float(t >= 3), float(t + 1 >= 3)
        exact = torch.tensor([now == 1.0])
        reward = part.going_on(torch.tensor([after]), torch.tensor([now]))
        if t + 1 == 8:
            reward = reward + part.terminal(torch.tensor([True]))
        yes, last = torch.tensor([True]), torch.tensor([t + 1 == 8])
        go, stop = torch.tensor([int(Action.CONTINUE)]), torch.tensor([int(Action.HALT)])
        part.replay.push(yes, state(t), go, reward, state(t + 1), last, NEVER)
        part.replay.push(yes, state(t), stop, part.terminal(exact), state(t), yes, NEVER)
    part.accuracy.fill_(1.0)
    optimizer = torch.optim.Adam(part.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    for step in range(400):
        part.follow(step)
        learnt = part.loss(step, generator)
        assert learnt is not None
        learnt[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        q = torch.cat([part.values(state(t), NEVER) for t in range(1, 8)])
    # Q(s3, H) = 1, Q(s3, C) = -0.01 + 0.99, Q(s2, C) = 1 - 0.01 + 0.99, Q(s1, C) = -0.01 + 0.99 Q(s2, C)
    found = [q[0, 0].item(), q[1, 0].item(), q[2, 1].item(), q[2, 0].item()]
    assert found == pytest.approx([1.950, 1.980, 1.000, 0.980], abs=0.05)
    assert q.argmax(dim=1)[:3].tolist() == [Action.CONTINUE, Action.CONTINUE, Action.HALT]


def test_a_target_takes_the_action_of_one_network_and_the_value_of_the_other() -> None:
    part = dqn(capacity=8, min_size=1, batch=4)
    with torch.no_grad():
        part.q[-1].bias.copy_(torch.tensor([1.0, 0.5]))  # type: ignore[operator]
    part.target_2_bias.copy_(torch.tensor([10.0, 20.0]))  # type: ignore[operator]
    state = torch.ones(1, part.width + 3)
    yes, no = torch.tensor([True]), torch.tensor([False])
    part.replay.push(yes, state, torch.tensor([0]), torch.tensor([0.5]), state, no, NEVER)
    learnt = part.loss(0, torch.Generator().manual_seed(0))
    assert learnt is not None
    # the best action of the Q network is CONTINUE, whose value in the target network is 10
    assert learnt[1].item() == pytest.approx(0.5 + 0.99 * 10 - 1.0, abs=1e-3)
    with torch.no_grad():
        part.q[-1].bias.mul_(2)  # type: ignore[operator]
    again = part.loss(0, torch.Generator().manual_seed(0))
    assert again is not None
    assert again[1].item() == pytest.approx(0.5 + 0.99 * 10 - 2.0, abs=1e-3)


def test_the_target_network_follows_in_closed_form_once_a_step() -> None:
    part = dqn(tau=0.1)
    start = part.get_buffer("target_0_weight").clone()
    with torch.no_grad():
        part.q[0].weight.add_(1.0)  # type: ignore[operator]
    for step in range(5):
        part.follow(step)
        part.follow(step)
    moved = part.get_buffer("target_0_weight") - start
    assert torch.allclose(moved, torch.full_like(moved, 1 - 0.9**4), atol=1e-5), "none before the first update"


def test_exploration_follows_the_optimizer_step_and_is_off_in_evaluation() -> None:
    part = dqn(epsilon=0.5, epsilon_end=0.1, epsilon_steps=100)
    assert [part.epsilon(step) for step in (0, 50, 100, 1000)] == pytest.approx([0.5, 0.3, 0.1, 0.1])
    with torch.no_grad():
        part.q[-1].bias.copy_(torch.tensor([0.0, 1.0]))  # type: ignore[operator]
    state, closed = torch.zeros(2000, part.width + 3), torch.zeros(2000, dtype=torch.bool)
    actions = part.train().decide(state, closed, 0, torch.Generator().manual_seed(0)).action
    assert (actions == Action.CONTINUE).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (part.eval().decide(state, closed, 0, None).action == Action.HALT).all()


@pytest.mark.parametrize("action", [Action.CONTINUE, Action.HALT, Action.EXPAND])
def test_the_column_that_is_best_is_executed_and_stored(action: Action) -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "open": "learned"}, dqn={**DQN, "epsilon": 0.0})
    assert network.halting_q is not None
    with torch.no_grad():
        network.halting_q.q[-1].bias[int(action)] = 5.0  # type: ignore[index,operator]
    found = list(training(network, rows_for(network), 2, lr=0.0))
    stored = network.halting_q.replay.action[:6].tolist()
    assert stored == [int(action)] * 6
    carry = found[0][0]
    assert carry.halted.all() == (action == Action.HALT)
    assert carry.opened.sum() == (6 if action == Action.EXPAND else 0)


def test_expand_is_masked_once_all_capsules_are_open() -> None:
    network = engine(vision=VISION, capsules={**CAPSULES, "open": "learned"}, dqn=DQN)
    assert network.halting_q is not None
    state = torch.zeros(2, 35)
    q = network.halting_q.values(state, torch.tensor([True, False]))
    assert torch.isinf(q[0, 2])
    assert torch.isfinite(q[1]).all()


def test_transitions_of_a_row_are_linked_and_end_at_the_limit() -> None:
    network = engine(dqn={**DQN, "epsilon": 0.0, "min_size": 64})
    assert network.halting_q is not None
    rows = rows_for(network, 1)
    accuracies = [losses.accuracy[0].item() for _, _, losses in training(network, rows, 3, lr=0.0)]
    replay = network.halting_q.replay
    assert replay.pushed == 2
    assert torch.equal(replay.after[0], replay.state[1])
    assert replay.done[:2].tolist() == [False, True]
    first = accuracies[1] - accuracies[0] - 0.01
    last = accuracies[2] - accuracies[1] - 0.01 - 0.5
    assert replay.reward[:2].tolist() == pytest.approx([first, last], abs=1e-6)
    assert replay.state[0, 33].item() == pytest.approx(1 / 3, abs=1e-3)
    assert replay.state[0, 32].item() == 1.0, "no step before: the change is 1"


def test_a_full_buffer_keeps_the_newest_and_pushes_in_order() -> None:
    replay = Replay(4, 1, 0.0)
    for first in range(0, 9, 3):
        numbers = torch.arange(first, first + 3).float()
        chosen = torch.tensor([True, first != 3, True])
        replay.push(
            chosen, numbers[:, None], numbers.long() % 2, numbers, numbers[:, None], chosen, torch.zeros(3).bool()
        )
    assert sorted(replay.reward[:4].tolist()) == [5.0, 6.0, 7.0, 8.0]
    assert replay.size == 4
    assert replay.priority[4] == 0
    sample = replay.sample(torch.rand(500, generator=torch.Generator().manual_seed(0)), 0.0)
    assert set(sample.reward.tolist()) == {5.0, 6.0, 7.0, 8.0}
    assert (sample.weight == 1).all()


def test_samples_follow_the_priorities_and_weights_undo_them() -> None:
    replay = Replay(4, 1, 0.6)
    yes = torch.ones(4, dtype=torch.bool)
    replay.push(yes, torch.zeros(4, 1), torch.zeros(4).long(), torch.arange(4.0), torch.zeros(4, 1), yes, ~yes)
    errors = torch.tensor([0.1, 0.5, 1.0, 4.0])
    replay.update(torch.arange(4), errors)
    share = (errors + 1e-6) ** 0.6 / ((errors + 1e-6) ** 0.6).sum()
    sample = replay.sample(torch.rand(20_000, generator=torch.Generator().manual_seed(0)), 0.4)
    counts = torch.bincount(sample.place, minlength=4).float()
    chi_squared = ((counts - 20_000 * share).square() / (20_000 * share)).sum()
    assert chi_squared < 11.34, "99% point with three degrees of freedom"
    weights = (4 * share) ** -0.4
    assert torch.allclose(sample.weight, (weights / weights.max())[sample.place], atol=1e-4)
    part = dqn(prioritized=True, per_beta=0.4, epsilon_steps=10)
    assert [part.beta(step) for step in (0, 5, 10, 99)] == pytest.approx([0.4, 0.7, 1.0, 1.0])


def test_the_bonus_of_a_state_falls_with_its_visits() -> None:
    part = CountBonus(4, 0.05)
    state, chosen = torch.ones(1, 4), torch.tensor([True])
    found = [part(state, chosen).item() for _ in range(4)]
    assert found == pytest.approx([0.05 / n**0.5 for n in (1, 2, 3, 4)])
    assert part(-state, chosen).item() == pytest.approx(0.05)
    assert part(-state, torch.tensor([False])).item() == 0


def test_distillation_errors_fall_on_states_that_were_seen() -> None:
    part = DistillationBonus(8, 0.1, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    seen, unseen = torch.randn(16, 8, generator=generator), torch.randn(16, 8, generator=generator)
    optimizer = torch.optim.Adam(part.parameters(), 1e-3)
    before = part(seen).mean().item()
    for _ in range(150):
        part(seen).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert part(seen).mean().item() < before / 10
    assert part(seen).mean().item() < part(unseen).mean().item() / 10


def test_the_loss_trains_the_q_network_alone() -> None:
    network = engine(dqn={**DQN, "min_size": 1})
    for _, _, losses in training(network, rows_for(network), 4):
        last = losses
    assert "dqn" in last.terms
    network = engine(dqn={**DQN, "min_size": 1})
    generator = torch.Generator().manual_seed(0)
    carry = network.initial_carry(6)
    for step in range(3):
        network.optimizer_step = step
        carry, output = network.train().step(rows_for(network), carry, generator=generator)
    output.terms["dqn"].backward()  # type: ignore[no-untyped-call]
    touched = {name for name, p in network.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert touched
    assert all(name.startswith("halting_q.q") for name in touched)


def test_answers_halt_by_the_learnt_values() -> None:
    network = engine(dqn=DQN).eval()
    assert network.halting_q is not None
    for bias, steps in ((5.0, 1), (-5.0, 3)):
        with torch.no_grad():
            network.halting_q.q[-1].bias[int(Action.HALT)] = bias  # type: ignore[index,operator]
        assert network.answer(rows_for(network), halting=Halting("score")).steps.tolist() == [steps] * 6
