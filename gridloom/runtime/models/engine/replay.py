"""Replay buffer of transitions, with sampling by priority (prioritized experience replay, arXiv 1511.05952).

    P(i) = p_i / sum p,  p_i = (|delta_i| + 1e-6)^alpha;  weight_i = (N P(i))^-beta / max weight

All fields are buffers of a module, so that checkpoints hold them. A push writes rows in order without a count on the
host: rows that are not chosen go to a spare row behind the last.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

SMALL = 1e-6


class Transitions(NamedTuple):
    """Sampled transitions."""

    state: Tensor
    """fp32 [n, F]"""
    action: Tensor
    """int64 [n]"""
    reward: Tensor
    """fp32 [n]"""
    after: Tensor
    """fp32 [n, F]"""
    done: Tensor
    """fp32 [n], 1 at the end of an episode."""
    opened: Tensor
    """bool [n], whether EXPAND is masked in the next state."""
    weight: Tensor
    """fp32 [n], importance weight."""
    place: Tensor
    """int64 [n], rows of the buffer."""


class Replay(nn.Module):
    """Ring buffer of C transitions with F features."""

    state: Tensor
    after: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    opened: Tensor
    priority: Tensor
    """fp32 [C + 1], p_i; 0 for rows not written yet and for the spare one."""
    pushed: Tensor
    """int64 scalar, transitions pushed in all."""
    highest: Tensor
    """fp32 scalar, highest priority so far, which new rows get."""

    def __init__(self, capacity: int, features: int, alpha: float) -> None:
        """Args: alpha: exponent of the priorities; 0 samples evenly."""
        super().__init__()
        self.capacity, self.alpha = capacity, alpha
        for name in ("state", "after"):
            self.register_buffer(name, torch.zeros(capacity + 1, features, dtype=torch.float16))
        self.register_buffer("action", torch.zeros(capacity + 1, dtype=torch.int8))
        self.register_buffer("reward", torch.zeros(capacity + 1))
        for name in ("done", "opened"):
            self.register_buffer(name, torch.zeros(capacity + 1, dtype=torch.bool))
        self.register_buffer("priority", torch.zeros(capacity + 1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))
        self.register_buffer("highest", torch.ones(()))

    @property
    def size(self) -> Tensor:
        """Number of transitions held, int64 scalar."""
        return self.pushed.clamp(max=self.capacity)

    @torch.no_grad()
    def push(
        self, chosen: Tensor, state: Tensor, action: Tensor, reward: Tensor, after: Tensor, done: Tensor, opened: Tensor
    ) -> None:
        """Append the transitions with `chosen` bool [B]; the oldest are overwritten."""
        order = chosen.long().cumsum(dim=0) - 1
        place = torch.where(chosen, (self.pushed + order) % self.capacity, self.capacity)
        self.state[place], self.after[place] = state.half(), after.half()
        self.action[place], self.reward[place] = action.to(torch.int8), reward.float()
        self.done[place], self.opened[place] = done, opened
        self.priority[place] = self.highest
        self.priority[self.capacity] = 0
        self.pushed += chosen.sum()

    @torch.no_grad()
    def sample(self, draws: Tensor, beta: float) -> Transitions:
        """Return a transition for each of `draws`, fp32 [n] uniform in [0, 1)."""
        running = self.priority[: self.capacity].double().cumsum(dim=0)
        index = torch.searchsorted(running, draws.to(running.device).double() * running[-1], right=True)
        index = torch.minimum(index, self.size - 1)
        share = self.priority[index] / running[-1].float()
        weight = (self.size * share).clamp(min=1e-12) ** -beta
        return Transitions(
            self.state[index].float(),
            self.action[index].long(),
            self.reward[index],
            self.after[index].float(),
            self.done[index].float(),
            self.opened[index],
            weight / weight.max(),
            index,
        )

    @torch.no_grad()
    def update(self, index: Tensor, errors: Tensor) -> None:
        """Set the priorities of sampled transitions from their errors fp32 [n]."""
        if self.alpha == 0:
            return
        priority = (errors.abs() + SMALL) ** self.alpha
        self.priority[index] = priority
        self.highest.copy_(torch.maximum(self.highest, priority.max()))
