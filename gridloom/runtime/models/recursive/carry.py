"""Inputs and outputs of an ACT step. B rows, L grid tokens, P prefix positions, S = P + L, D width."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Carry:
    """State of rows between ACT steps. Rows with `halted` set take new data and are reset at the next call."""

    z_H: Tensor
    """Answer state [B, S, D], detached; the only state of a network with one state."""
    z_L: Tensor
    """Latent state [B, S, D], detached; [B, 6, S, D] for six latents, [B, 0, D] for none."""
    steps: Tensor
    """int32 [B], number of ACT steps on the current sample."""
    halted: Tensor
    """bool [B]."""
    inputs: Tensor
    """uint8 [B, L], tokens of the current sample."""
    labels: Tensor
    """uint8 [B, L]; label 0 is not scored; all 0 in inference."""
    puzzle_ids: Tensor
    """int64 [B]."""


@dataclass(frozen=True, slots=True)
class Injection:
    """Latent from an adapter: an initial carry set after the reset, a term added to the input at every cycle, or both.

    `z_H`, `z_L` ([B, S, D]) replace H_init, L_init in rows that are reset. `term` (broadcastable to [B, S, D]) is added
    to the scaled input embedding, whose RMS is about 1.
    """

    z_H: Tensor | None = None
    z_L: Tensor | None = None
    term: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Prediction of one ACT step, for the data in the carry of the same step."""

    logits: Tensor
    """[B, L, V] in the activation dtype; size 0 if the step was run without heads."""
    q_halt: Tensor
    """fp32 [B]."""
    q_continue: Tensor
    """fp32 [B]; trained in the HRM only, present in all networks for the file format."""
    puzzle_rows: Tensor
    """Leaf tensor fp32 [B, D] whose `.grad` updates the puzzle embedding."""
    z_H: Tensor
    """[B, S, D], answer state with its autograd graph; the carry holds a detached copy."""
    continue_target: Tensor | None = None
    """fp32 [B], target probability of q_continue; None if q_continue is not trained."""
