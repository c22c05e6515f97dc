"""Rows of a recursive network followed over ACT steps tile by tile, with noise on their states for restarts."""

from __future__ import annotations

import torch

from gridloom.runtime.models.follow import Following, join_followed, residual_of
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.inference import begin, num_steps_of, tiles
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.losses import answer_loss
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import Followed, Rows


@torch.no_grad()
def follow(network: RecursiveCore, rows: Rows, steps: int | None = None, noise: StateNoise | None = None) -> Followed:
    """Run all ACT steps of every row; the tokens of a step equal those of `inference.answer` with as many steps.

    Args:
        noise: noise that is added to the initial states, or to the states before every step.
    """
    num_steps = num_steps_of(network, steps)
    parts: list[Followed] = []
    with rounded_once(network):
        for place in tiles(network, *rows.inputs.shape):
            part = rows.part(place)
            start = None if part.start is None else Injection(*part.start)
            carry, x = begin(network, part.inputs, part.puzzle_ids, start)
            z_H, z_L = carry.z_H, carry.z_L
            history = Following(network, part)
            for step in range(num_steps):
                if noise is not None:
                    z_H, z_L = noise.added(z_H, z_L, place.start, step)
                before = [z_H, z_L]
                z_H, z_L = network.recur(z_H, z_L, x)
                logits, q = network.predict(z_H), network.halting(z_H)
                loss = None if part.labels is None else answer_loss(logits, part.labels)
                history.add(logits, q[:, 0], network.margin(q), residual_of(before, [z_H, z_L]), loss)
            parts.append(history.found())
    return join_followed(parts)
