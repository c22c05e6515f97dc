"""Values around the steps of a network: rows in; predictions, losses, answers and traces out. B rows, L tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Same = Callable[[Tensor, Tensor], Tensor]
"""(tokens [B, L], tokens [B, L]) -> bool [B], True where both are the same answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of a batch: tokens or vectors, with their valid lengths."""

    inputs: Tensor
    """uint8 [B, L] tokens, or fp32 [B, T, F] vectors."""
    puzzle_ids: Tensor
    """int64 [B], 0 for rows without a puzzle embedding."""
    labels: Tensor | None = None
    """uint8 [B, L] tokens, or [B, T * K] classes + 1, K for each time step, or [B, K] of the row as a whole
    (`RowShape.whole`); label 0 is not scored. None in inference."""
    lengths: Tensor | None = None
    """int32 [B], valid tokens or time steps of each row; None if all are valid."""
    start: tuple[Tensor, Tensor] | None = None
    """Initial states z_H, z_L [B, S, D] of rows that start, in place of the network's own (`Network.random_states`)."""
    shapes: Tensor | None = None
    """int [B, 2], rows and columns of the rectangle, at the corner of its canvas, that a row of a network with packed
    rows has; tokens outside it are not read. None for rows of whole canvases."""

    def part(self, rows: slice | Tensor) -> Rows:
        """Return some of the rows."""
        return Rows(
            self.inputs[rows],
            self.puzzle_ids[rows],
            None if self.labels is None else self.labels[rows],
            None if self.lengths is None else self.lengths[rows],
            None if self.start is None else (self.start[0][rows], self.start[1][rows]),
            None if self.shapes is None else self.shapes[rows],
        )


@dataclass(frozen=True, slots=True)
class Halting:
    """Rule by which a row stops before its last ACT step; changes results."""

    when: Literal["none", "score", "unchanged", "fixed"] = "none"
    """`score`: the halting logit decides; `unchanged`: the answer equals the answer of the previous step; `none`: the
    network's own rule within an ACT step, if it has one; `fixed`: every step is made, whatever that rule."""
    patience: int = 1
    """Number of consecutive steps that must request the halt."""

    @property
    def every_step(self) -> bool:
        """Whether no row stops before its last ACT step."""
        return self.when in ("none", "fixed")


EVERY_STEP = Halting()
"""No row stops before its last ACT step."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of rows at their last ACT step."""

    tokens: Tensor
    """uint8 [B, L]"""
    q_halt: Tensor
    """fp32 [B], halting logits."""
    steps: Tensor
    """int32 [B], ACT step of each answer; the last one without halting. Of rows whose inputs or positions halt
    separately, the mean number of their steps, fp32."""
    num_computed: int
    """Computed ACT steps, summed over the rows; less than the sum of `steps` if states repeated."""
    loss: Tensor | None = None
    """fp32 [B], loss of each answer; None without labels."""
    mean_steps: Tensor | None = None
    """fp32 [B], steps averaged over the valid inputs or positions of a row; None for a network that ponders none
    of them alone."""
    natural: Tensor | None = None
    """fp32 [B], share of the valid inputs or positions that halted by themselves before the step limit; None where that
    is not known."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Inference run: answers, and their changes at each step."""

    tokens: Tensor
    """uint8 [B, L], argmax after the last step."""
    q_halt: Tensor
    """fp32 [steps, B], halting logits."""
    changed: Tensor
    """int32 [steps, B], positions whose argmax differs from the step before (L at step 1)."""
    carry: Any
    """Carry after the last step, of the family's type."""


@dataclass(frozen=True, slots=True)
class HaltedTrace:
    """Answers of rows at their halting steps, and their history. T: maximum number of steps of a row."""

    tokens: Tensor
    """uint8 [B, L]"""
    q_halt: Tensor
    """fp32 [T, B], halting logits; 0 after a row's last step."""
    changed: Tensor
    """int32 [T, B], positions whose argmax differs from the step before (L at step 1); 0 after a row's last step."""
    steps: Tensor
    """int32 [B], number of ACT steps of each row."""
    z_H: Tensor | None = None
    """[B, S, D], answer state after a row's last step; None for a family without z_H and z_L."""
    z_L: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Followed:
    """History of rows over N ACT steps in which none of them halts. B rows, L answer positions."""

    tokens: Tensor
    """uint8 [N, B, L], answer after each step."""
    q_halt: Tensor
    """fp32 [N, B], halting logits."""
    margin: Tensor
    """fp32 [N, B], positive where the network's own rule would halt the row: the halting logit, or how far it exceeds
    the logit to continue."""
    confidence: Tensor
    """fp32 [N, B], largest probability of a position, averaged over the positions that are scored (all without
    labels)."""
    confidence_all: Tensor
    """fp32 [N, B], product of these probabilities: that of a whole answer if positions were independent."""
    residual: Tensor | None = None
    """fp32 [N, B], root mean square of the change of the states in the step; NaN where it is not defined, None for a
    network without states."""
    loss: Tensor | None = None
    """fp32 [N, B], loss of each answer; None without labels."""


class StepOutput(Protocol):
    """Prediction of one ACT step."""

    @property
    def logits(self) -> Tensor:
        """[B, L, V]; size 0 if the step was run without heads."""

    @property
    def q_halt(self) -> Tensor:
        """Halting logits, fp32 [B]; [B, L] if positions halt separately."""

    @property
    def puzzle_rows(self) -> Tensor | None:
        """Leaf tensor fp32 [B, D] whose `.grad` updates the puzzle embedding; None without one."""


class Losses(Protocol):
    """Losses of one step."""

    def total(self) -> Tensor:
        """Sum over the rows; the caller divides by the global batch size."""


@dataclass(frozen=True, slots=True)
class AnswerLosses:
    """Cross-entropy of rows, with the counts of their accuracies."""

    cross_entropy: Tensor
    """fp32 [B], averaged over the scored positions of each row."""
    num_right: Tensor
    """int64 [B]"""
    num_scored: Tensor
    """int64 [B]"""

    def total(self) -> Tensor:
        """Sum over the rows."""
        return self.cross_entropy.sum()


def row_halting(q_halt: Tensor) -> Tensor:
    """Return halting logits of rows, fp32 [B]: the minimum of [B, L] logits, as a row halts with its last position."""
    return q_halt if q_halt.ndim == 1 else q_halt.flatten(1).min(dim=1).values


def take_rows(carry: Any, rows: slice) -> Any:
    """Return a slice of the rows of a carry."""
    return type(carry)(**{f.name: getattr(carry, f.name)[rows] for f in fields(carry)})


def join_carries(carries: Sequence[Any]) -> Any:
    """Concatenate carries along the rows; a single one is returned as it is."""
    if len(carries) == 1:
        return carries[0]
    first = carries[0]
    return type(first)(**{f.name: torch.cat([getattr(one, f.name) for one in carries]) for f in fields(first)})
