"""Values around the steps of a Universal Transformer: carry, prediction, losses. B rows, L positions, V classes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from gridloom.runtime.models.universal_transformer.hops import Halted


@dataclass(frozen=True, slots=True)
class UniversalTransformerCarry:
    """Data and counts of rows; no state persists beyond a row."""

    steps: Tensor
    """int32 [B], hops of the row, which ends with its last position."""
    halted: Tensor
    """bool [B], True."""
    labels: Tensor
    """uint8 [B, number of labels], class or token; label 0 is not scored."""
    puzzle_ids: Tensor
    """int64 [B], 0."""


@dataclass(frozen=True, slots=True)
class UniversalTransformerOutput:
    """Prediction of rows."""

    logits: Tensor
    """[B, number of labels, V]"""
    q_halt: Tensor
    """fp32 [B, L], logit of the halting probability summed up to a position's last hop; +inf where it reached 1 and at
    padding; 0 without ACT."""
    halted: Halted
    valid: Tensor
    """bool [B, L]"""
    ponder: Tensor
    """fp32 [B], N + R averaged over the valid positions; 0 without ACT."""
    puzzle_rows: None = None

    @property
    def mean_steps(self) -> Tensor:
        """fp32 [B], hops N averaged over the valid positions."""
        return self.halted.steps.sum(dim=1) / self.valid.sum(dim=1).clamp(min=1)


@dataclass(frozen=True, slots=True)
class UniversalTransformerLosses:
    """Losses of rows."""

    classification: Tensor
    """fp32 [B], cross-entropy averaged over the scored answers."""
    ponder: Tensor
    """fp32 [B], ponder cost times its weight tau."""
    num_right: Tensor
    """int64 [B]"""
    num_scored: Tensor
    """int64 [B]"""

    def total(self) -> Tensor:
        """Sum over the rows of classification loss and ponder cost."""
        return (self.classification + self.ponder).sum()
