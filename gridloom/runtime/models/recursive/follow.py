"""Rows of a recursive network followed over ACT steps tile by tile, with noise on their states for restarts."""

from __future__ import annotations

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.follow import Following, join_followed, residual_of
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.inference import Place, begin, in_order, num_steps_of, tiles
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.losses import answer_loss
from gridloom.runtime.models.recursive.packed.tiles import packed_tiles
from gridloom.runtime.models.state_noise import StateNoise
from gridloom.runtime.models.steps import Followed, Rows


@torch.no_grad()
def follow(network: RecursiveCore, rows: Rows, steps: int | None = None, noise: StateNoise | None = None) -> Followed:
    """Run all ACT steps of every row; the tokens of a step equal those of `inference.answer` with as many steps.

    Args:
        rows: rows of whole canvases, or of a network with packed rows those with shapes.
        noise: noise that is added to the initial states, or to the states before every step.

    Raises:
        ModelError: noise or initial states are given for packed rows.
    """
    num_steps = num_steps_of(network, steps)
    if rows.shapes is not None:
        return _follow_packed(network, rows, rows.shapes, num_steps, noise)
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


def _follow_packed(
    network: RecursiveCore, rows: Rows, shapes: Tensor, num_steps: int, noise: StateNoise | None
) -> Followed:
    """Run packed rows tile by tile; positions outside a row's rectangle have token 0 and count nowhere."""
    if noise is not None or rows.start is not None:
        raise ModelError("packed rows start from the network's own states, without noise", "use square canvases")
    parts: list[Followed] = []
    places: list[Place] = []
    with rounded_once(network):
        for place, tile in packed_tiles(network, rows.inputs, rows.puzzle_ids, shapes, None):
            part = rows.part(torch.from_numpy(place).to(rows.inputs.device))
            history = Following(network, part, tile.inside())
            for _ in range(num_steps):
                before = [tile.z_H, tile.z_L]
                tile.recur()
                logits, q = tile.on_canvas(tile.logits()), tile.halting()
                loss = None if part.labels is None else answer_loss(logits, part.labels)
                residual = tile.residual(before, [tile.z_H, tile.z_L])
                history.add(logits, q[:, 0], network.margin(q), residual, loss)
            parts.append(history.found())
            places.append(place)
    return join_followed(parts, in_order(places, rows.inputs.device))
