"""Rows followed over ACT steps without halting: answers, halting logits, confidence and residual of every step."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.steps import Followed, Rows, StepOutput, row_halting


class Stepping(Protocol):
    """The part of a network's interface by which rows are followed."""

    def initial_carry(self, batch: int, device: torch.device | str | None = None, num_cells: int | None = None) -> Any:
        """Return the carry of rows that take new data."""

    def step(self, rows: Rows, carry: Any) -> tuple[Any, StepOutput]:
        """Run one ACT step of every row."""

    def rounded(self) -> AbstractContextManager[None]:
        """Round weights once for all calls inside the context."""

    def halting_margin(self, output: StepOutput) -> Tensor:
        """Return fp32 [B], positive for rows that halt."""

    def log_probabilities(self, logits: Tensor) -> Tensor:
        """Return log-probabilities of logits [..., V]."""

    def answer_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the losses of answers, fp32 [B]."""


class Following:
    """History of rows, step by step."""

    def __init__(self, network: Stepping, rows: Rows, cells: Tensor | None = None) -> None:
        """Prepare the history of rows without a step.

        Args:
            rows: rows whose labels, where given, name the scored positions.
            cells: bool [B, L], positions that a row has, of rows with shapes of their own; None for all.
        """
        self.network, self.labels, self.cells = network, rows.labels, cells
        self.columns: dict[str, list[Tensor]] = {}

    def add(self, logits: Tensor, q_halt: Tensor, margin: Tensor, residual: Tensor | None, loss: Tensor | None) -> None:
        """Record a step: logits [B, L, V], fp32 [B] each of the others."""
        likely, tokens = self.network.log_probabilities(logits).max(dim=-1)
        scored = self._scored()
        if scored is not None:
            likely = torch.where(scored, likely, 0.0)
            counts = scored.sum(dim=1).clamp(min=1)
            mean = torch.where(scored, likely.exp(), 0.0).sum(dim=1) / counts
        else:
            mean = likely.exp().mean(dim=1)
        step = {
            "tokens": tokens.to(torch.uint8),
            "q_halt": q_halt,
            "margin": margin,
            "confidence": mean,
            "confidence_all": likely.sum(dim=1).exp(),
            "residual": residual,
            "loss": loss,
        }
        for name, value in step.items():
            if value is not None:
                self.columns.setdefault(name, []).append(value)

    def _scored(self) -> Tensor | None:
        """Return the positions that count, bool [B, L]: those with a label, of a row without any all that it has."""
        if self.labels is None:
            return self.cells
        scored = self.labels != 0
        every = torch.ones_like(scored) if self.cells is None else self.cells
        return torch.where(scored.any(dim=1, keepdim=True), scored, every)

    def found(self) -> Followed:
        """Return the steps recorded."""
        return Followed(**{name: torch.stack(steps) for name, steps in self.columns.items()})


@torch.no_grad()
def follow_steps(network: Stepping, rows: Rows, steps: int) -> Followed:
    """Run `steps` ACT steps of every row by `Network.step`. Raises ModelError for less than one step.

    The residual of the first step is not defined, since the states that rows start from are not seen.
    """
    if steps < 1:
        raise ModelError(f"ACT steps must be at least 1, not {steps}")
    batch, num_cells = rows.inputs.shape[:2]
    carry = network.initial_carry(batch, rows.inputs.device, num_cells)
    history = Following(network, rows)
    with network.rounded():
        for step in range(steps):
            before = carry
            carry, output = network.step(rows, carry)
            # after halt_max_steps a network halts its rows, which would take new data
            carry = replace(carry, halted=torch.zeros_like(carry.halted))
            loss = None if rows.labels is None else network.answer_loss(output.logits, rows.labels)
            residual = residual_of(_states(before), _states(carry))
            if residual is not None and step == 0:
                residual = torch.full_like(residual, torch.nan)
            history.add(
                output.logits, row_halting(output.q_halt).float(), network.halting_margin(output), residual, loss
            )
    return history.found()


def _states(carry: Any) -> list[Tensor]:
    values = (getattr(carry, field.name) for field in fields(carry))
    return [one for one in values if isinstance(one, Tensor) and one.is_floating_point() and one.ndim > 1]


def residual_of(before: list[Tensor], after: list[Tensor]) -> Tensor | None:
    """Return fp32 [B], the root mean square of the difference of states [B, ...]; None without an entry."""
    size = sum(one[0].numel() for one in after)
    if size == 0:
        return None
    squares = [(b.float() - a.float()).square().flatten(1).sum(dim=1) for a, b in zip(before, after, strict=True)]
    return (torch.stack(squares).sum(dim=0) / size).sqrt()


def join_followed(parts: list[Followed], order: Tensor | None = None) -> Followed:
    """Concatenate the histories of rows over equally many steps.

    Args:
        order: int64 [B], for each row its index in the parts one after the other; None for that order.
    """
    if len(parts) == 1 and order is None:
        return parts[0]
    columns: dict[str, Tensor | None] = {}
    for field in fields(Followed):
        values = [getattr(part, field.name) for part in parts]
        joined = None if values[0] is None else torch.cat(values, dim=1)
        columns[field.name] = joined if joined is None or order is None else joined[:, order]
    return Followed(**columns)  # type: ignore[arg-type]
