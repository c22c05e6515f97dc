"""Relatives of the TRM: one state, six latents, the HRM's two stacks, and the non-recursive transformer baseline."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor

from gridloom.runtime.models.recursive.network import RecursiveNetwork

NUM_LATENTS = 6


class SingleZ(RecursiveNetwork):
    """One state: a round is L_cycles times z = f(z + x), then z = f(z). It is carried as z_H."""

    L_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Make the stack and the initial state."""
        self.L_level = self.stack(generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """L_init, and no latent."""
        return self.L_init.view(1, 1, -1), self.L_init.new_empty(1, 0, self.spec.hidden_size)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H rounds."""
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
    """Six latents: call i of a round sets latent i to f(sum of the six, z_H + x); then z_H = f(z_H, sum)."""

    H_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Make the stack and seven initial states."""
        self.L_level = self.stack(generator)
        self.register_start("H_init", generator)
        for i in range(NUM_LATENTS):
            self.register_start(f"L{i + 1}_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """H_init, and the six latents' as [1, 6, 1, D]."""
        latents = torch.stack([self.get_buffer(f"L{i + 1}_init") for i in range(NUM_LATENTS)])
        return self.H_init.view(1, 1, -1), latents[None, :, None]

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H rounds."""
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
    """Hierarchical Reasoning Model: a stack for each state; only the last call of each is differentiated.

    It halts where q_halt exceeds q_continue, and q_continue learns the value of going on from a second forward pass.
    """

    H_init: Tensor
    L_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Make the two stacks and the two initial states."""
        self.H_level, self.L_level = self.stack(generator), self.stack(generator)
        self.register_start("H_init", generator)
        self.register_start("L_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """H_init and L_init."""
        return self.H_init.view(1, 1, -1), self.L_init.view(1, 1, -1)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Run the H rounds; the gradient is that of one L call and one H call."""
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
        """Where halting is worth more than going on."""
        return q[:, 0] > q[:, 1]

    @torch.no_grad()
    def continue_target(self, z_H: Tensor, z_L: Tensor, x: Tensor, last: Tensor) -> Tensor:
        """Return sigmoid(q_halt') on the last step, else sigmoid(max(q_halt', q_continue')), a step ahead."""
        q = self.halting(self.recur(z_H, z_L, x)[0])
        return torch.where(last, q[:, 0], q.amax(dim=1)).sigmoid()


class Transformer(RecursiveNetwork):
    """The baseline without recursion in a step: z_H = f(z_H + x), once an ACT step. Its q_continue is untrained."""

    H_init: Tensor

    def build(self, generator: torch.Generator | None) -> None:
        """Make the stack and the initial state."""
        self.H_level = self.stack(generator)
        self.register_start("H_init", generator)

    def starts(self) -> tuple[Tensor, Tensor]:
        """H_init, and no latent."""
        return self.H_init.view(1, 1, -1), self.H_init.new_empty(1, 0, self.spec.hidden_size)

    def recur(self, z_H: Tensor, z_L: Tensor, x: Tensor, grad_all_rounds: bool = False) -> tuple[Tensor, Tensor]:
        """Call the stack once."""
        return self.H_level(z_H, x, self.rope), z_L

    def halts(self, q: Tensor) -> Tensor:
        """Compare with the untrained q_continue, as the original does."""
        return q[:, 0] > q[:, 1]


def _sum(latents: list[Tensor]) -> Tensor:
    # In this order: floating-point sums depend on it.
    total = latents[0]
    for latent in latents[1:]:
        total = total + latent
    return total
