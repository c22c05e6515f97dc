"""Traced run whose rows may halt before their last ACT step, which changes results; see `inference` for exact runs.

Rows that have halted leave the batch; the history of a row ends with its halting step."""

from __future__ import annotations

import torch
from torch import Tensor

from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.inference import FoundAnswers, begin, num_steps_of, part_of, tiles
from gridloom.runtime.models.recursive.layers import rounded_once
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
) -> HaltedTrace:
    """Run rows until each halts, at most `steps` ACT steps (by default the network's `halt_max_steps`).

    The rounding of a row depends on the other rows of its batch, since halted rows leave: to reproduce results bit for
    bit, run the same rows together.

    Args:
        inputs: uint8 [B, L].
        puzzle_ids: int64 [B].
        same: comparison of answers for `unchanged`; None to compare all tokens.
    """
    most = num_steps_of(network, steps)
    parts: list[_Traced] = []
    with rounded_once(network):
        for rows in tiles(network, *inputs.shape):
            carry, x = begin(network, inputs[rows], puzzle_ids[rows], part_of(injection, rows))
            z_H, z_L = carry.z_H, carry.z_L
            traced = _Traced(network, carry.inputs.shape, halting, same, most, z_H, z_L)
            for step in range(1, most + 1):
                z_H, z_L = network.recur(z_H, z_L, x)
                if traced.keep(z_H, z_L, step, step == most):
                    break
                stay = traced.leave()
                if stay is not None:
                    z_H, z_L, x = z_H[stay], z_L[stay], x[stay]
            parts.append(traced)
    made = torch.cat([part.steps for part in parts])
    longest = int(made.max())
    return HaltedTrace(
        tokens=torch.cat([part.tokens for part in parts]),
        q_halt=torch.cat([part.q_of_step for part in parts], dim=1)[:longest],
        changed=torch.cat([part.changed for part in parts], dim=1)[:longest],
        steps=made,
        z_H=torch.cat([part.z_H for part in parts]),
        z_L=torch.cat([part.z_L for part in parts]),
    )


class _Traced(FoundAnswers):
    """Answers of a tile, with the history of each row and its final states."""

    def __init__(
        self,
        network: RecursiveCore,
        shape: torch.Size,
        halting: Halting,
        same: Same | None,
        most: int,
        z_H: Tensor,
        z_L: Tensor,
    ) -> None:
        super().__init__(network, shape, halting, same, None, 0)
        self.q_of_step = torch.zeros(most, shape[0], device=network.device)
        self.changed = torch.zeros(most, shape[0], dtype=torch.int32, device=network.device)
        self.z_H, self.z_L = torch.empty_like(z_H), torch.empty_like(z_L)

    def keep(self, z_H: Tensor, z_L: Tensor, step: int, last: bool) -> bool:
        """Record the step of the rows that run; return whether all rows have halted."""
        running = ~self.halted
        place = self.rows[running]
        before = self.tokens[place]
        done = self.look(z_H, step, last)
        different = self.tokens[place] != before
        self.changed[step - 1, place] = (torch.ones_like(different) if step == 1 else different).sum(
            dim=1, dtype=torch.int32
        )
        self.q_of_step[step - 1, place] = self.q_halt[place]
        self.z_H[place], self.z_L[place] = z_H[running], z_L[running]
        return done
