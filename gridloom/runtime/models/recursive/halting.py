"""Traced run whose rows may halt before their last ACT step, which changes results; see `inference` for exact runs.

Rows that have halted leave the batch; the history of a row ends with its halting step."""

from __future__ import annotations

import torch
from torch import Tensor

from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.inference import FoundAnswers, Place, in_order, num_steps_of, started
from gridloom.runtime.models.recursive.layers import rounded_once
from gridloom.runtime.models.recursive.packed.tiles import Tile
from gridloom.runtime.models.steps import HaltedTrace, Halting, Same


@torch.no_grad()
def trace_halting(
    network: RecursiveCore,
    inputs: Tensor,
    puzzle_ids: Tensor,
    halting: Halting,
    injection: Injection | None = None,
    steps: int | None = None,
    same: Same | None = None,
    shapes: Tensor | None = None,
) -> HaltedTrace:
    """Run rows until each halts, at most `steps` ACT steps (by default the network's `halt_max_steps`).

    The rounding of a row depends on the other rows of its batch, since halted rows leave: to reproduce results bit for
    bit, run the same rows together.

    Args:
        inputs: uint8 [B, L].
        puzzle_ids: int64 [B].
        same: comparison of answers for `unchanged`; None to compare all tokens.
        shapes: int [B, 2], rectangle of each row of a network with packed rows; the trace then has no states.
    """
    most = num_steps_of(network, steps)
    parts: list[_Traced] = []
    places: list[Place] = []
    with rounded_once(network):
        for place, tile, _ in started(network, inputs, puzzle_ids, injection, shapes):
            traced = _Traced(tile, inputs.shape[1], halting, same, most, place, with_states=shapes is None)
            for step in range(1, most + 1):
                tile.recur()
                if traced.keep(step, step == most):
                    break
                stay = traced.leave()
                if stay is not None:
                    tile.keep(stay)
            parts.append(traced)
            places.append(place)
    back = in_order(places, inputs.device)
    made = torch.cat([part.steps for part in parts])[back]
    longest = int(made.max())
    return HaltedTrace(
        tokens=torch.cat([part.tokens for part in parts])[back],
        q_halt=torch.cat([part.q_of_step for part in parts], dim=1)[:longest, back],
        changed=torch.cat([part.changed for part in parts], dim=1)[:longest, back],
        steps=made,
        z_H=None if shapes is not None else torch.cat([part.z_H for part in parts]),
        z_L=None if shapes is not None else torch.cat([part.z_L for part in parts]),
    )


class _Traced(FoundAnswers):
    """Answers of a tile, with the history of each row and its final states."""

    def __init__(
        self,
        tile: Tile,
        num_cells: int,
        halting: Halting,
        same: Same | None,
        most: int,
        place: Place,
        *,
        with_states: bool,
    ) -> None:
        super().__init__(tile, num_cells, halting, same, None, place)
        device = tile.z_H.device
        self.q_of_step = torch.zeros(most, tile.num_rows, device=device)
        self.changed = torch.zeros(most, tile.num_rows, dtype=torch.int32, device=device)
        self.with_states = with_states
        self.z_H, self.z_L = torch.empty_like(tile.z_H), torch.empty_like(tile.z_L)

    def keep(self, step: int, last: bool) -> bool:
        """Record the step of the rows that run; return whether all rows have halted."""
        running = ~self.halted
        place = self.rows[running]
        before = self.tokens[place]
        num_cells = self.tile.num_cells()[running]
        z_H, z_L = self.tile.z_H, self.tile.z_L
        done = self.look(step, last)
        different = (self.tokens[place] != before).sum(dim=1, dtype=torch.int32)
        self.changed[step - 1, place] = num_cells if step == 1 else different
        self.q_of_step[step - 1, place] = self.q_halt[place]
        if self.with_states:
            self.z_H[place], self.z_L[place] = z_H[running], z_L[running]
        return done
