"""Gradient health: an update whose gradient, or loss, is not finite is skipped, counted, and recorded by its step.

A skipped update leaves weights, moments, averages and puzzle rows as they are; the schedule counts its step. All ranks
decide alike, since they compare the summed gradient. On a CPU the host reads the decision; on other devices nothing
waits for it: the update is made and undone by a mask, and the records wait on the device until the host reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

MOST_IN_A_ROW = 10
"""Consecutive skipped updates that end a training."""
PUZZLE_ROWS = "puzzle_emb"
"""Name of the rows of the puzzle embedding, which are no parameters."""
_RECORDS = 64
"""Skipped updates that are kept on record between two readings; more of them are counted alone."""


@dataclass(frozen=True, slots=True)
class Skip:
    """One skipped update."""

    step: int
    number: int
    """Skipped updates of the training so far, this one included."""
    num_nan: int
    """Parameters whose gradient holds a NaN."""
    num_inf: int
    """Parameters whose gradient holds an infinity, or overflows in its norm, and no NaN."""
    first: str
    """First parameter whose gradient is not finite; empty where each is finite, and the loss or the norm is not."""

    @property
    def figures(self) -> dict[str, float]:
        """Figures by their names in the ledger."""
        return {
            "skipped_updates": float(self.number),
            "grad_nan_params": float(self.num_nan),
            "grad_inf_params": float(self.num_inf),
        }

    @property
    def cause(self) -> str:
        """Cause as a clause."""
        if not self.first:
            return "the loss, or the norm of the whole gradient, is not finite"
        return f"the gradient of {self.first} is not finite ({self.num_nan} with NaN, {self.num_inf} infinite)"


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Norms of a gradient."""

    each: Tensor
    """fp32 [P], norm of each parameter that has a gradient."""
    total: Tensor
    """fp32 []"""
    places: tuple[int, ...]
    """Numbers of these parameters in the order of the network."""


def gradient_norms(parameters: Sequence[nn.Parameter]) -> GradientNorms:
    """Return the L2 norms of the gradients; the total of none is 0."""
    places = tuple(number for number, p in enumerate(parameters) if p.grad is not None)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        nothing = torch.zeros(0, device=parameters[0].device if parameters else None)
        return GradientNorms(nothing, torch.nn.utils.get_total_norm([]).to(nothing.device), places)
    each = torch.stack(torch._foreach_norm(gradients)).float()
    return GradientNorms(each, torch.linalg.vector_norm(each), places)


class SkippedUpdates:
    """Count and records of the skipped updates of a training, on the device of its weights."""

    def __init__(self, names: Sequence[str], device: torch.device) -> None:
        """Args: names: parameters in the order of the network."""
        self.names = tuple(names)
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)
        """int64 [2], skipped in a row up to the last step, and in all."""
        self._records = torch.zeros(_RECORDS, 4, dtype=torch.int64, device=device)
        """int64 [_RECORDS, 4], step, parameters with NaN and infinities, number of the first bad one."""
        self._reported = 0
        self._orders: dict[tuple[int, ...], Tensor] = {}

    def passed(self) -> None:
        """Count an update that was made, on a host that knows it."""
        self._counts[0].zero_()

    def count(self, step: int, is_finite: Tensor, norms: GradientNorms, rows_finite: Tensor) -> None:
        """Count and record the update of a step where `is_finite`, a bool [], is False; does not synchronise.

        Args:
            rows_finite: bool [], whether the gradient of the puzzle rows is finite.
        """
        skipped = (~is_finite).long()
        self._counts[1] += skipped
        self._counts[0] += 1
        self._counts[0] *= skipped
        rest = torch.where(rows_finite, len(self.names) + 1, len(self.names))
        bad = ~torch.isfinite(norms.each)
        first = (
            torch.where(bad.any(), self._order(norms.places)[bad.int().argmax()[None]][0], rest) if len(bad) else rest
        )
        made = torch.stack(
            [torch.full_like(first, step), torch.isnan(norms.each).sum(), torch.isinf(norms.each).sum(), first]
        )
        slot = ((self._counts[1] - 1) % _RECORDS)[None]
        kept = self._records.index_select(0, slot)
        self._records.index_copy_(0, slot, torch.where(is_finite, kept, made[None]))

    def _order(self, places: tuple[int, ...]) -> Tensor:
        if places not in self._orders:
            self._orders[places] = torch.tensor(places, device=self._counts.device)
        return self._orders[places]

    def read(self) -> tuple[int, list[Skip]]:
        """Return the number skipped in a row up to the last step, and the skips since the last call, at most 64.

        Synchronises with the device.
        """
        in_a_row, total = self._counts.tolist()
        new = min(total - self._reported, _RECORDS)
        if not new:
            return in_a_row, []
        records = self._records.tolist()
        self._reported = total
        found = []
        for number in range(total - new + 1, total + 1):
            step, num_nan, num_inf, first = records[(number - 1) % _RECORDS]
            found.append(Skip(step, number, num_nan, num_inf, (*self.names, PUZZLE_ROWS, "")[first]))
        return in_a_row, found

    @property
    def total(self) -> int:
        """Updates skipped up to the last `read`."""
        return self._reported

    def state(self) -> Tensor:
        """Return what a saved state holds: int64 [2]."""
        return self._counts

    def restore(self, counts: Tensor | None) -> None:
        """Load what `state` returned; None for a state that was saved before updates were skipped."""
        if counts is None:
            self._counts.zero_()
        else:
            self._counts.copy_(counts)
        self._reported = int(self._counts[1])


@contextmanager
@torch.no_grad()
def undone_unless(is_finite: Tensor, tensors: Callable[[], Sequence[Tensor]]) -> Iterator[None]:
    """Restore `tensors()` as they were before the block where `is_finite`, a bool [], is False; does not synchronise.

    Tensors that exist only after the block, such as moments, become zeros.
    """
    before = {id(t): t.clone() for t in tensors()}
    yield
    for t in tensors():
        old = before.get(id(t))
        t.copy_(torch.where(is_finite, t, torch.zeros_like(t) if old is None else old))


def restarted(carry: Any, is_finite: Tensor | None = None) -> Tensor:
    """Return `halted`, bool [B], of a carry, and True where a state is not finite: the next step starts the row anew.

    Args:
        is_finite: bool [], whether all rows are left as they are.
    """
    halted: Tensor = carry.halted
    finite = finite_rows(carry)
    if finite is None:
        return halted
    broken = ~finite if is_finite is None else ~finite & ~is_finite
    return halted | broken


def finite_rows(carry: Any) -> Tensor | None:
    """Return bool [B], whether the state of each row is finite; None for a carry without a state. A carry whose states
    are not [B, ...] has a method `finite_rows` of its own."""
    if (own := getattr(carry, "finite_rows", None)) is not None:
        found: Tensor = own()
        return found
    states = [t for t in _tensors(carry).values() if t.is_floating_point() and t.numel()]
    if not states:
        return None
    return torch.stack([torch.isfinite(t).flatten(1).all(dim=1) for t in states]).all(dim=0)


def _tensors(carry: Any) -> Mapping[str, Tensor]:
    return {name: getattr(carry, name) for name in type(carry).__dataclass_fields__}


def first_not_finite(model: nn.Module) -> str | None:
    """Return the name of the first weight, or table of puzzle rows, with a value that is not finite; synchronises."""
    tensors = {name: t for name, t in model.state_dict().items() if t.is_floating_point() and t.numel()}
    if not tensors:
        return None
    finite = torch.stack([torch.isfinite(t).all() for t in tensors.values()]).tolist()
    return next((name for name, good in zip(tensors, finite, strict=True) if not good), None)
