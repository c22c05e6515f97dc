"""Relatives of the TRM: one state, six latents, the HRM's two stacks, and the non-recursive transformer baseline."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from gridloom.runtime.models.recursive.network import RecursiveNetwork

NUM_LATENTS = 6


class SingleZ(RecursiveNetwork):
    """Network with one state: an H cycle is L_cycles times z = f(z + x), then z = f(z). The carry holds z as z_H."""

    L_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Create the stack and the initial state."""
        self.L_level = self.stack(generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return L_init, and no latent."""
        return self.L_init.view(1, 1, -1), self.L_init.new_empty(1, 0, self.spec.hidden_size)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles."""
        with nullcontext() if grad_all_rounds else torch.no_grad():
            for _ in range(self.spec.H_cycles - 1):
                z_H = self._round(z_H, x)
        return self._round(z_H, x), z_L

    def _round(self, z: Tensor, x: Tensor) -> Tensor:
        for _ in range(self.spec.L_cycles):
            z = self.L_level(z, x, self.rope)
        result: Tensor = self.L_level(z, None, self.rope)
        return result


class Hier6(RecursiveNetwork):
    """Network with six latents: L cycle i sets latent i to f(sum of the six, z_H + x); then z_H = f(z_H, sum)."""

    H_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Create the stack and seven initial states."""
        self.L_level = self.stack(generator)
        self.register_start("H_init", generator)
        for i in range(NUM_LATENTS):
            self.register_start(f"L{i + 1}_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return H_init [1, 1, D], and the six latents' initial states [1, 6, 1, D]."""
        latents = torch.stack([self.get_buffer(f"L{i + 1}_init") for i in range(NUM_LATENTS)])
        return self.H_init.view(1, 1, -1), latents[None, :, None]

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles."""
        latents = list(z_L.unbind(dim=1))
        with nullcontext() if grad_all_rounds else torch.no_grad():
            for _ in range(self.spec.H_cycles - 1):
                z_H = self._round(z_H, latents, x)
        z_H = self._round(z_H, latents, x)
        return z_H, torch.stack(latents, dim=1)

    def _round(self, z_H: Tensor, latents: list[Tensor], x: Tensor) -> Tensor:
        for i in range(self.spec.L_cycles):
            latents[i] = self.L_level(_sum(latents), z_H + x, self.rope)
        result: Tensor = self.L_level(z_H, _sum(latents), self.rope)
        return result


class HRM(RecursiveNetwork):
    """Hierarchical Reasoning Model (arXiv 2506.21734): a stack per state; only the last call of each is differentiated.

    A row halts if q_halt exceeds q_continue; the target of q_continue is the value of a second forward pass.
    """

    H_init: Tensor
    L_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Create the two stacks and the two initial states."""
        self.H_level, self.L_level = self.stack(generator), self.stack(generator)
        self.register_start("H_init", generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return H_init and L_init as [1, 1, D]."""
        return self.H_init.view(1, 1, -1), self.L_init.view(1, 1, -1)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H cycles; the gradient is that of one L call and one H call."""
        rounds, calls = self.spec.H_cycles, self.spec.L_cycles
        with nullcontext() if grad_all_rounds else torch.no_grad():
            for i in range(rounds):
                for _ in range(calls - (i == rounds - 1)):
                    z_L = self.L_level(z_L, z_H + x, self.rope)
                if i < rounds - 1:
                    z_H = self.H_level(z_H, z_L, self.rope)
        z_L = self.L_level(z_L, z_H + x, self.rope)
        return self.H_level(z_H, z_L, self.rope), z_L

    def halts(self, q: Tensor) -> Tensor:
        """Return q_halt > q_continue, bool [B]."""
        return q[:, 0] > q[:, 1]

    def margin(self, q: Tensor) -> Tensor:
        """Return q_halt - q_continue, fp32 [B]."""
        return q[:, 0] - q[:, 1]

    @torch.no_grad()
    def continue_target(self, z_H: Tensor, z_L: Tensor, x: Tensor, last: Tensor) -> Tensor:
        """Return sigmoid(q_halt') on the last step, else sigmoid(max(q_halt', q_continue')), of the next step."""
        q = self.halting(self.recur(z_H, z_L, x)[0])
        return torch.where(last, q[:, 0], q.amax(dim=1)).sigmoid()


class Transformer(RecursiveNetwork):
    """Baseline without recursion in a step: z_H = f(z_H + x), once per ACT step; q_continue is not trained."""

    H_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Create the stack and the initial state."""
        self.H_level = self.stack(generator)
        self.register_start("H_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """Return H_init, and no latent."""
        return self.H_init.view(1, 1, -1), self.H_init.new_empty(1, 0, self.spec.hidden_size)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Call the stack once."""
        return self.H_level(z_H, x, self.rope), z_L

    def halts(self, q: Tensor) -> Tensor:
        """Return q_halt > q_continue, bool [B], with untrained q_continue as in the original."""
        return q[:, 0] > q[:, 1]

    def margin(self, q: Tensor) -> Tensor:
        """Return q_halt - q_continue, fp32 [B]."""
        return q[:, 0] - q[:, 1]


def _sum(latents: list[Tensor]) -> Tensor:
    # order matters: floating-point sums depend on it
    total = latents[0]
    for latent in latents[1:]:
        total = total + latent
    return total
