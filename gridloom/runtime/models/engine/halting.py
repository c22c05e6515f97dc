"""Halting by double deep Q-learning (arXiv 1509.06461): a decision after each ACT step t = 1 .. T - 1 of a row.

    state s_t = [LN(mean of z_H over the question); 1 - cos(mean_t, mean_(t-1)); t / T; mean reconstructability]
    HALT: reward 1 if exact, else -0.5; the episode ends
    CONTINUE, EXPAND: reward acc_(t+1) - acc_t - 0.01; if t + 1 = T the reward of halting is added, and it ends
    y = r + gamma (1 - done) Q_target(s', argmax_a Q(s', a));  Huber loss with importance weights

The action taken is the one stored. EXPAND opens a capsule, and is masked without capsules to open. Rewards are clipped
to [-2, 2], and never centred, which would change the best time to stop. The loss trains the Q network alone: states are
stored without a graph. The target network follows by tau once an optimizer step. The loss weight rises from 0.005 to
0.5 as the running token accuracy goes from 0 to 0.5.
"""

from __future__ import annotations

from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gridloom.runtime.models.engine.curiosity import CountBonus, DistillationBonus
from gridloom.runtime.models.engine.layers import dense
from gridloom.runtime.models.engine.replay import Replay
from gridloom.runtime.models.engine.spec import Dqn, EngineModel

EXTRA = 3
"""Features beside the mean state: change, share of steps, reconstructability."""
CLIP = 2.0
LEAST_WEIGHT, MOST_WEIGHT, FULL_ACCURACY = 0.005, 0.5, 0.5


class Action(IntEnum):
    """Actions by their column of the Q network, in the replay buffer and when executed."""

    CONTINUE = 0
    HALT = 1
    EXPAND = 2


class Decision(NamedTuple):
    """Decision after a step, for a batch."""

    action: Tensor
    """int64 [B]"""
    values: Tensor
    """fp32 [B, 3], Q; EXPAND is -inf where it is masked."""


class HaltingQ(nn.Module):
    """Q network, target network, replay buffer and bonuses."""

    accuracy: Tensor
    """fp32 scalar, moving average of token accuracy."""
    synced: Tensor
    """int64 scalar, optimizer step of the last update of the target network."""

    def __init__(self, spec: EngineModel, generator: torch.Generator | None) -> None:
        super().__init__()
        assert spec.dqn is not None
        self.part: Dqn = spec.dqn
        self.width, self.steps = spec.hidden_size, spec.halt_max_steps
        features = self.width + EXTRA
        self.expands = spec.capsules is not None and spec.capsules.open == "learned"
        sizes = [features, *[self.part.hidden] * self.part.layers]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(sizes):
            layers += [dense(narrow, wide, generator), nn.ReLU()]
        self.q = nn.Sequential(*layers, dense(sizes[-1], len(Action) if self.expands else 2, None, zero=True))
        for name, parameter in self.q.named_parameters():
            self.register_buffer(_target(name), parameter.detach().clone())
        self.replay = Replay(self.part.capacity, features, self.part.per_alpha if self.part.prioritized else 0.0)
        self.count = CountBonus(features, self.part.count_curiosity) if self.part.count_curiosity else None
        rnd = self.part.rnd_curiosity
        self.distillation = DistillationBonus(features, rnd, generator) if rnd else None
        self.register_buffer("accuracy", torch.zeros(()))
        self.register_buffer("synced", torch.zeros((), dtype=torch.int64))

    @staticmethod
    def features(mean: Tensor, before: Tensor, steps: Tensor, most: int, reconstructability: Tensor) -> Tensor:
        """Return s_t, fp32 [B, D + 3].

        Args:
            mean: fp32 [B, D], mean answer state.
            before: fp32 [B, D], that of the step before; zeros at the first step, where the change is 1.
            steps: int [B], t.
            most: T.
            reconstructability: fp32 [B]; 1 without capsules.
        """
        change = 1 - F.cosine_similarity(mean, before, dim=-1)
        return torch.cat(
            (
                F.layer_norm(mean, (mean.shape[-1],)),
                change[:, None],
                (steps.float() / most)[:, None],
                reconstructability[:, None],
            ),
            dim=1,
        )

    def values(self, state: Tensor, all_open: Tensor) -> Tensor:
        """Return Q fp32 [B, 3] or [B, 2]; EXPAND is -inf where all capsules are open, bool [B]."""
        q: Tensor = self.q(state)
        return self._masked(q, all_open)

    def _masked(self, q: Tensor, all_open: Tensor) -> Tensor:
        if not self.expands:
            return q
        closed = torch.stack((torch.zeros_like(all_open), torch.zeros_like(all_open), all_open), dim=1)
        return q.masked_fill(closed, float("-inf"))

    def target_values(self, state: Tensor) -> Tensor:
        """Return Q of the target network, fp32 [n, 2 or 3]."""
        x = state
        for number, layer in enumerate(self.q):
            if isinstance(layer, nn.Linear):
                weight, bias = (self.get_buffer(_target(f"{number}.{part}")) for part in ("weight", "bias"))
                x = F.linear(x, weight, bias)
            else:
                x = layer(x)
        return x

    def epsilon(self, step: int) -> float:
        """Return the probability of a random action at an optimizer step."""
        share = min(1.0, step / self.part.epsilon_steps)
        return self.part.epsilon + (self.part.epsilon_end - self.part.epsilon) * share

    def beta(self, step: int) -> float:
        """Return the exponent of importance weights at an optimizer step; 0 without priorities."""
        if not self.part.prioritized:
            return 0.0
        return self.part.per_beta + (1 - self.part.per_beta) * min(1.0, step / self.part.epsilon_steps)

    @torch.no_grad()
    def decide(self, state: Tensor, all_open: Tensor, step: int, generator: torch.Generator | None) -> Decision:
        """Choose an action for each row: the best one; in training a random one with probability epsilon."""
        q = self.values(state, all_open)
        action = q.argmax(dim=1)
        if self.training:
            draw = torch.rand(len(state), 2, generator=generator).to(state.device)
            allowed = torch.isfinite(q).sum(dim=1)  # EXPAND is the last column, so the allowed actions come first
            random = (draw[:, 1] * allowed).long()
            action = torch.where(draw[:, 0] < self.epsilon(step), random, action)
        return Decision(action, q)

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Move the target network by tau, once an optimizer step."""
        if int(self.synced) == step:
            return
        self.synced.fill_(step)
        for name, parameter in self.q.named_parameters():
            self.get_buffer(_target(name)).lerp_(parameter, self.part.tau)

    def loss(self, step: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the loss with its weight, the mean absolute error and the mean Q of a sample; None before `min_size`.

        Sets the priorities of the sample.
        """
        if int(self.replay.size) < max(1, min(self.part.min_size, self.part.capacity)):
            return None
        sample = self.replay.sample(torch.rand(self.part.batch, generator=generator), self.beta(step))
        q = self.q(sample.state)
        with torch.no_grad():
            best = self._masked(self.q(sample.after), sample.opened).argmax(dim=1, keepdim=True)
            ahead = self.target_values(sample.after).gather(1, best).squeeze(1)
            wanted = sample.reward + self.part.gamma * (1 - sample.done) * ahead
        chosen = q.gather(1, sample.action[:, None]).squeeze(1)
        error = (chosen - wanted).detach()
        loss = (F.smooth_l1_loss(chosen, wanted, reduction="none") * sample.weight).mean()
        self.replay.update(sample.place, error)
        share = (self.accuracy / FULL_ACCURACY).clamp(max=1)
        weight = LEAST_WEIGHT + (MOST_WEIGHT - LEAST_WEIGHT) * share
        return weight * loss, error.abs().mean(), chosen.detach().mean()

    @torch.no_grad()
    def note_accuracy(self, accuracy: Tensor) -> None:
        """Update the moving average of token accuracy, decay 0.99, from fp32 [B]."""
        self.accuracy.lerp_(accuracy.mean(), 0.01)

    def terminal(self, exact: Tensor) -> Tensor:
        """Return the reward of halting, fp32 [B], from bool [B]."""
        return torch.where(exact, self.part.reward_exact, self.part.reward_wrong)

    def going_on(self, accuracy: Tensor, before: Tensor) -> Tensor:
        """Return the reward of a further step, fp32 [B]."""
        return accuracy - before - self.part.step_penalty


def _target(name: str) -> str:
    return "target_" + name.replace(".", "_")


def clipped(reward: Tensor) -> Tensor:
    """Return rewards within [-2, 2]."""
    return reward.clamp(-CLIP, CLIP)
