"""What goes into and comes out of an ACT step. B rows, L grid tokens, P prefix positions, S = P + L, D width."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Carry:
    """What a row keeps between ACT steps. Rows with `halted` set take new data and start at the next call."""

    z_H: Tensor
    """Answer state [B, S, D], detached; the only state of a network that has one."""
    z_L: Tensor
    """Latent state [B, S, D], detached; [B, 6, S, D] with six latents, [B, 0, D] with none."""
    steps: Tensor
    """int32 [B], ACT steps made on the present sample."""
    halted: Tensor
    """bool [B]."""
    inputs: Tensor
    """uint8 [B, L], tokens of the present sample."""
    labels: Tensor
    """uint8 [B, L], 0 where nothing is scored; all 0 in inference."""
    puzzle_ids: Tensor
    """int64 [B]."""


@dataclass(frozen=True, slots=True)
class Injection:
    """A latent from outside: an initial carry set after the reset, a term added to the input at every cycle, or both.

    With `z_H`, `z_L` ([B, S, D]) rows that start take these in place of H_init, L_init. `term` ([B, S, D] or anything
    that broadcasts to it) is added to the scaled input embedding, whose RMS is about 1.
    """

    z_H: Tensor | None = None
    z_L: Tensor | None = None
    term: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """What one ACT step predicts, for the data in the carry that it returns with."""

    logits: Tensor
    """[B, L, V] in the activation dtype; absent (size 0) when the step was run without heads."""
    q_halt: Tensor
    """fp32 [B]."""
    q_continue: Tensor
    """fp32 [B]; trained in the HRM only, kept elsewhere for the file format."""
    puzzle_rows: Tensor
    """fp32 [B, D] leaf: its `.grad` moves the puzzle embedding."""
    z_H: Tensor
    """[B, S, D], the answer state with its graph; the carry holds it detached."""
    continue_target: Tensor | None = None
    """fp32 [B], what q_continue is trained towards where it is trained."""
