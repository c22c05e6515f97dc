"""Values around an ACT step of the engine: carry, output, losses. B rows, S positions, A answers, D width."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from gridloom.runtime.models.engine.capsules import Encoded
from gridloom.runtime.models.engine.memory import Recall
from gridloom.runtime.models.engine.planning import Plan

HALTING_WEIGHT = 0.5


@dataclass(frozen=True, slots=True)
class EngineCarry:
    """State of rows between ACT steps; every field has the rows first. Rows with `halted` set take new data."""

    z_H: Tensor
    """[B, S, D], answer state, detached."""
    z_L: Tensor
    """[B, S, D], latent state, detached."""
    steps: Tensor
    """int32 [B]"""
    halted: Tensor
    """bool [B]"""
    inputs: Tensor
    """uint8 [B, L]"""
    labels: Tensor
    """uint8 [B, A]; label 0 is not scored; all 0 in inference without a decoder."""
    puzzle_ids: Tensor
    """int64 [B]"""
    opened: Tensor
    """bool [B, k], open capsules; [B, 0] without capsules."""
    mean: Tensor
    """fp32 [B, D], mean answer state of the step before; [B, 0] without `dqn`, as the three below."""
    view: Tensor
    """fp32 [B, D + 3], state of the last decision."""
    action: Tensor
    """int64 [B, 1], action of the last decision."""
    accuracy: Tensor
    """fp32 [B, 1], token accuracy at the last decision."""


@dataclass(frozen=True, slots=True)
class EngineOutput:
    """Prediction of one ACT step, for the data in the carry of the same step."""

    logits: Tensor
    """[B, A, V]"""
    q_halt: Tensor
    """fp32 [B], logit that the answer is exact."""
    puzzle_rows: Tensor
    """Leaf tensor fp32 [B, D] whose `.grad` updates the puzzle embedding."""
    z_H: Tensor
    """[B, S, D], state that the heads read, with its graph."""
    wants: Tensor
    """bool [B], rows that halt by the rule of the network: Q values or halting logit, and the checksum gate."""
    earlier: tuple[Tensor, ...] = ()
    """States [B, S, D] of earlier supervised H cycles, in training."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """Further losses of the parts, summed over the rows, with their weights."""
    measures: dict[str, Tensor] = field(default_factory=dict)
    """Figures of the parts, means over the rows."""
    plan: Plan | None = None
    recall: Recall | None = None
    encoded: Encoded | None = None
    values: Tensor | None = None
    """fp32 [B, 2 or 3], Q values of CONTINUE, HALT and EXPAND."""


@dataclass(frozen=True, slots=True)
class EngineLosses:
    """Losses and accuracies of rows; zeros for rows without a scored token."""

    lm: Tensor
    """fp32 [B], stablemax cross-entropy averaged over the row's scored tokens."""
    supervised: Tensor
    """fp32 [B], the same with earlier H cycles: half the last cycle, half their mean; equal to `lm` without them."""
    q_halt: Tensor
    """fp32 [B], binary cross-entropy of the halting logit against `correct`."""
    correct: Tensor
    """bool [B]"""
    accuracy: Tensor
    """fp32 [B], share of scored tokens that are right."""
    scored: Tensor
    """bool [B]"""
    terms: dict[str, Tensor]

    def total(self) -> Tensor:
        """Sum over the rows of all losses; the caller divides by the global batch size."""
        total = (self.supervised + HALTING_WEIGHT * self.q_halt).sum()
        for term in self.terms.values():
            total = total + term
        return total
