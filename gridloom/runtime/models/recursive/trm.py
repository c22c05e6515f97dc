"""Tiny Recursive Model (arXiv 2510.04871): one small stack applied over H and L cycles, with ACT halting.

Differences from a standard transformer:
- post-norm blocks without gain, bias, mask or dropout; the same stack updates z_L and z_H;
- the grid's embedding x enters the z_L updates only, by which the stack distinguishes z_L updates from z_H updates;
- only the last of the H cycles is differentiated;
- prefix position 0 holds the puzzle's learned row; the other prefix positions are registers that start at zero.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from gridloom.runtime.models.recursive.network import RecursiveNetwork


class TRM(RecursiveNetwork):
    """Network with an answer state z_H and a latent state z_L."""

    H_init: Tensor
    L_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Create the shared stack and the two initial states."""
        self.L_level = self.stack(generator)
        self.register_start("H_init", generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return H_init and L_init as [1, 1, D]."""
        return self.H_init.view(1, 1, -1), self.L_init.view(1, 1, -1)

    def cycle(self, z_H: Tensor, z_L: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run one H cycle: `L_cycles` updates of z_L, then one of z_H."""
        for _ in range(self.spec.L_cycles):
            z_L = self.L_level(z_L, z_H + x, self.rope)
        return self.L_level(z_H, z_L, self.rope), z_L

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles; only the last is differentiated unless `grad_all_rounds`."""
        with nullcontext() if grad_all_rounds else torch.no_grad():
            for _ in range(self.spec.H_cycles - 1):
                z_H, z_L = self.cycle(z_H, z_L, x)
        return self.cycle(z_H, z_L, x)
