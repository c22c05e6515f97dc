"""Optimisers in plain PyTorch: AdamATan2 for the trunk, sign-SGD for the puzzle rows; learning rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from gridloom.runtime.models.network import Network
from gridloom.runtime.models.recursive.layers import Embedding, PuzzleEmbedding
from gridloom.runtime.training.state import SLOTS
from gridloom.specs.stages import AdamAtan2, NetworkOptimizer
from gridloom.specs.stages import Muon as MuonSpec

for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    # torch keeps these out of compiled code and imports its compiler at their first call, a third of the processor time
    # of a training process's start; no code here compiles them
    _plain = getattr(getattr(torch.optim.Optimizer, _name), "__wrapped__", None)
    if _plain is not None:
        vars(_plain).setdefault("__dynamo_disable", _plain)


class AdamATan2(torch.optim.Optimizer):
    """Adam with p -= lr * atan2(m / (1 - b1^t), sqrt(v) / sqrt(1 - b2^t)): without epsilon, scale-invariant.

    Decoupled weight decay, p *= 1 - lr * wd, is applied before the update.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.95), weight_decay: float = 0.1
    ) -> None:
        super().__init__(list(params), {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
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
                # The step count is on the host: all parameters share it, and reading it must not synchronise.
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
            # atan2 depends on the ratio of its arguments alone, so one factor holds both bias corrections.
            root.mul_((1 - beta1**t) / math.sqrt(1 - beta2**t))
            p.add_(torch.atan2(m, root), alpha=-group["lr"])


def spared_by_decay(model: Network, decay: Literal["all", "matrices"] | None) -> list[nn.Parameter]:
    """Return the parameters that weight decay leaves alone.

    Args:
        decay: weights that decay; None for the choice of the family.
    """
    if decay == "all":
        return []
    spared = list(model.undecayed())
    if decay is None:
        return spared
    kept = {id(p) for p in spared}
    tables = {
        id(p)
        for module in model.modules()
        if isinstance(module, Embedding | nn.Embedding)
        for p in module.parameters(recurse=False)
    }
    return [p for p in model.parameters() if id(p) in kept or id(p) in tables or p.ndim < 2]


def _groups(params: Sequence[Tensor], spared: Iterable[Tensor], first: int = 0) -> list[Any]:
    """Return `params`, or two groups, of which the second does not decay; a saved state keeps the order of `params`.

    Args:
        first: place of the first parameter in a saved state.
    """
    chosen = {id(p) for p in spared}
    places = {id(p): first + number for number, p in enumerate(params)}
    rest = [p for p in params if id(p) in chosen]
    if not rest:
        return list(params)
    decayed = [p for p in params if id(p) not in chosen]
    return [
        {"params": group, SLOTS: [places[id(p)] for p in group], **more}
        for group, more in ((decayed, {}), (rest, {"weight_decay": 0.0}))
        if group
    ]


def build_optimizer(
    spec: NetworkOptimizer,
    params: Iterable[Tensor],
    matrices: Iterable[Tensor] = (),
    spared: Iterable[Tensor] = (),
) -> torch.optim.Optimizer:
    """Build the optimiser of the spec for parameters that require a gradient.

    Args:
        matrices: the subset of `params` that Muon updates; AdamATan2 updates the others.
        spared: the subset of `params` without weight decay.
    """
    wanted = [p for p in params if p.requires_grad]
    spared = list(spared) if spec.weight_decay > 0 else []
    if isinstance(spec, MuonSpec):
        chosen = {id(p) for p in matrices}
        turned, rest = ([p for p in wanted if (id(p) in chosen) is mine] for mine in (True, False))
        return MuonWith(
            Muon(_groups(turned, spared), lr=spec.lr, momentum=spec.momentum, weight_decay=spec.weight_decay),
            AdamATan2(_groups(rest, spared, len(turned)), lr=spec.lr, weight_decay=spec.weight_decay),
        )
    groups = _groups(wanted, spared)
    if isinstance(spec, AdamAtan2):
        return AdamATan2(groups, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay)
    # the fused update passes over weights and moments once, and a CPU waits for memory; on a GPU it would keep the step
    # count on the device, where an update that is undone by a mask would be undone in the count too
    on_host = all(p.device.type == "cpu" for p in wanted)
    return torch.optim.AdamW(
        groups, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, foreach=not on_host, fused=on_host
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def lr_factor(step: int, total: int, warmup: int, min_ratio: float, decay: float = 1.0) -> float:
    """Return the learning rate factor at `step` (from 1): linear warm-up, plateau, cosine from 1 to `min_ratio`.

    factor = step / warmup during warm-up, then r + (1 - r) * (1 + cos(pi * progress)) / 2 with r = min_ratio.

    Args:
        decay: share of the steps after the warm-up that the cosine covers, at their end; 1 for no plateau.
    """
    if step < warmup:
        return step / warmup
    length = max(1.0, decay * (total - warmup))
    progress = min(1.0, max(0.0, (step - (total - length)) / length))
    return min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def sign_sgd_rows(
    table: Tensor, ids: Tensor, gradients: Tensor, lr: float, weight_decay: float, is_wanted: Tensor | None = None
) -> None:
    """Update the rows `ids` [B] of `table` [R, D]: row *= 1 - lr * wd; row -= lr * sign(sum of gradients [B, D]).

    Nothing changes where `is_wanted`, a bool [], is False.

    For an id that occurs several times the same row is written several times, with equal values: finding the distinct
    ids would synchronise host and device.
    """
    same = (ids[:, None] == ids).to(torch.float32)
    summed = same @ gradients.float()
    before = table[ids]
    after = before * (1 - lr * weight_decay) - lr * summed.sign()
    table[ids] = after if is_wanted is None else torch.where(is_wanted, after, before)


def step_puzzle_rows(
    embedding: PuzzleEmbedding,
    ids: Tensor,
    gradients: Tensor | None,
    lr: float,
    weight_decay: float,
    is_wanted: Tensor | None = None,
) -> None:
    """Update the rows of the ids of a batch and, if there is a task table, of their tasks.

    Nothing changes where `is_wanted`, a bool [], is False.
    """
    if gradients is None:
        return
    if len(embedding.weights):
        sign_sgd_rows(embedding.weights, ids, gradients, lr, weight_decay, is_wanted)
    if embedding.task_weights is not None and embedding.task_of is not None:
        sign_sgd_rows(embedding.task_weights, embedding.task_of[ids], gradients, lr, weight_decay, is_wanted)


class Ema:
    """Weight averages: average = decay * average + (1 - decay) * weight, starting from the initial weights.

    With `warmup` the decay of update t, from 1, is min(decay, (1 + t) / (10 + t)), so that the initial weights do not
    last in a short training. With decay 0 the weights are their own average, and no tensor is kept.
    """

    def __init__(self, model: nn.Module, decay: float, *, warmup: bool = False) -> None:
        self.decay, self.warmup = decay, warmup
        live: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if p.requires_grad} if decay > 0 else {}
        self._names, self._live = list(live), [*live.values()]
        self._average = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the averages with the weights after a step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay
        if self._live:
            torch._foreach_lerp_(self._average, self._live, 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averages by parameter name."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Load averages that `tensors` returned."""
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(tensors[name])

    def state_of(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the model's state dict with averages in place of the current weights."""
        return {**{name: t.detach().clone() for name, t in model.state_dict().items()}, **self.tensors()}


NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """Map the singular values of a matrix [R, C] into about [0.7, 1.2] by five Newton-Schulz steps; zero stays zero."""
    a, b, c = NEWTON_SCHULZ
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x: Tensor = wide / wide.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Muon: p *= 1 - lr * wd; p -= lr * 0.2 sqrt(max(rows, columns)) * orthogonal(g + b m), where m = b m + g.

    The factor matches the RMS of Adam's updates, so that Adam's learning rates apply.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.1) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every matrix that has a gradient."""
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


class MuonWith(torch.optim.Optimizer):
    """Muon for the given matrices and another optimiser for the other parameters, as one optimiser."""

    def __init__(self, muon: Muon, rest: torch.optim.Optimizer) -> None:
        super().__init__([*muon.param_groups, *rest.param_groups], {})
        self.parts = (muon, rest)
        # Groups and states are shared with the two optimisers: a learning rate or a restored state reaches both.
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
        """Update all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state dict, and share the states with the two optimisers again."""
        super().load_state_dict(state_dict)
        self._share()
