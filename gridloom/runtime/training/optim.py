"""Optimisers in plain PyTorch: AdamATan2 for the trunk, sign-SGD for the puzzle rows; the learning rate's schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

from gridloom.runtime.models.layers import PuzzleEmbedding
from gridloom.runtime.training.muon import Muon, MuonWith
from gridloom.specs.stages import AdamAtan2, NetworkOptimizer
from gridloom.specs.stages import Muon as MuonSpec


class AdamATan2(torch.optim.Optimizer):
    """Adam with p -= lr * atan2(m / (1 - b1^t), sqrt(v) / sqrt(1 - b2^t)): no epsilon, invariant to the loss's scale.

    Weight decay is decoupled, p *= 1 - lr * wd, and comes first.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.95),
                 weight_decay: float = 0.1) -> None:
        super().__init__(list(params), {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Move every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._move(params, group)
        return loss

    def _move(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for p in params:
            if not self.state[p]:
                # The count is on the host: every parameter of a step shares it, and reading it must not synchronise.
                self.state[p].update(step=torch.zeros(()), exp_avg=torch.zeros_like(p), exp_avg_sq=torch.zeros_like(p))
            self.state[p]["step"] += 1
        gradients = [p.grad for p in params if p.grad is not None]
        first = [self.state[p]["exp_avg"] for p in params]
        second = [self.state[p]["exp_avg_sq"] for p in params]
        beta1, beta2 = group["betas"]
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(second)
        for p, m, root in zip(params, first, roots, strict=True):
            t = int(self.state[p]["step"])
            # One positive factor may move from either argument of atan2 to the other: the correction costs nothing.
            root.mul_((1 - beta1**t) / math.sqrt(1 - beta2**t))
            p.add_(torch.atan2(m, root), alpha=-group["lr"])


def build_optimizer(spec: NetworkOptimizer, params: Iterable[Tensor],
                    matrices: Iterable[Tensor] = ()) -> torch.optim.Optimizer:
    """Make the optimiser that the spec names, for parameters that require gradient.

    Args:
        matrices: those of `params` that Muon may move; it leaves the rest to AdamATan2.
    """
    wanted = [p for p in params if p.requires_grad]
    if isinstance(spec, MuonSpec):
        chosen = {id(p) for p in matrices}
        return MuonWith(
            Muon([p for p in wanted if id(p) in chosen], lr=spec.lr, momentum=spec.momentum,
                 weight_decay=spec.weight_decay),
            AdamATan2([p for p in wanted if id(p) not in chosen], lr=spec.lr, weight_decay=spec.weight_decay),
        )
    if isinstance(spec, AdamAtan2):
        return AdamATan2(wanted, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
    return torch.optim.AdamW(wanted, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, foreach=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def lr_factor(step: int, total: int, warmup: int, min_ratio: float, decay: float = 1.0) -> float:
    """Share of the base learning rate at `step` (from 1): linear warm-up, plateau, then a cosine from 1 to `min_ratio`.

    factor = step / warmup below warmup, then r + (1 - r) * (1 + cos(pi * progress)) / 2; r = 1 keeps it constant.

    Args:
        decay: share of the steps after the warm-up, at their end, over which the cosine runs; 1 leaves no plateau.
    """
    if step < warmup:
        return step / warmup
    length = max(1.0, decay * (total - warmup))
    progress = min(1.0, max(0.0, (step - (total - length)) / length))
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def sign_sgd_rows(table: Tensor, ids: Tensor, gradients: Tensor, lr: float, weight_decay: float) -> None:
    """Move the rows of `table` [R, D] that `ids` [B] name: row *= 1 - lr * wd; row -= lr * sign(sum of gradients).

    An id that stands several times gets its sum at each place, and so the same row is written as often: to find the
    distinct ids would make the host wait for the device.
    """
    same = (ids[:, None] == ids).to(torch.float32)
    summed = same @ gradients.float()
    table[ids] = table[ids] * (1 - lr * weight_decay) - lr * summed.sign()


def step_puzzle_rows(embedding: PuzzleEmbedding, ids: Tensor, gradients: Tensor | None, lr: float,
                     weight_decay: float) -> None:
    """Move the rows of each id seen and, where there is a task table, of each task seen."""
    if gradients is None:
        return
    if len(embedding.weights):
        sign_sgd_rows(embedding.weights, ids, gradients, lr, weight_decay)
    if embedding.task_weights is not None and embedding.task_of is not None:
        sign_sgd_rows(embedding.task_weights, embedding.task_of[ids], gradients, lr, weight_decay)
