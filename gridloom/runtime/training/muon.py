"""Muon: momentum whose singular values are all brought near one, for the matrices of a stack (Jordan et al. 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """p *= 1 - lr * wd; p -= lr * 0.2 sqrt(max(rows, columns)) * orthogonal(g + b m), where m = b m + g.

    The factor gives updates the RMS that Adam's have, so that Adam's learning rates carry over.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                momentum = self.state[p]["momentum"].mul_(group["momentum"]).add_(p.grad)
                update = orthogonalise(torch.add(p.grad, momentum, alpha=group["momentum"]))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-0.2 * group["lr"] * max(p.shape) ** 0.5)
        return loss


def orthogonalise(matrix: Tensor) -> Tensor:
    """Bring the singular values of [R, C] into about [0.7, 1.2] by five Newton-Schulz steps; zero stays zero."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class MuonWith(torch.optim.Optimizer):
    """Muon for the matrices it is given and another optimiser for the rest, as one."""

    def __init__(self, muon: Muon, rest: torch.optim.Optimizer) -> None:
        super().__init__([*muon.param_groups, *rest.param_groups], {})
        self.parts = (muon, rest)
        # The groups and states of the parts are this optimiser's own: a learning rate or a restored state reaches both.
        self._share()

    def _share(self) -> None:
        count = len(self.parts[0].param_groups)
        self.parts[0].param_groups, self.parts[1].param_groups = self.param_groups[:count], self.param_groups[count:]
        for part in self.parts:
            part.state = self.state

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move all parameters."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore, and share the restored states with the parts."""
        super().load_state_dict(state_dict)
        self._share()
