"""Losses of one ACT step: stablemax cross-entropy on the scored tokens, and the halting loss. Sums over rows.

Shapes: B rows, L grid tokens, N scored tokens over all rows, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from gridloom.runtime.models.recursive.carry import Output
from gridloom.runtime.models.recursive.core import RecursiveCore

HALTING_WEIGHT = 0.5
PACKED_ON = ("cpu",)
"""Device types on which heads are applied to the scored positions alone."""


def log_stablemax(logits: Tensor) -> Tensor:
    """Return fp32 log-probabilities of s(x) / sum s, where s(x) = x + 1 for x >= 0 and 1 / (1 - x) below.

    log s(x) = log(1 + x) for x >= 0, -log(1 - x) below.
    """
    x = logits.float()
    # each branch gets arguments of its own side only: the gradient of the other branch would be NaN at 1 or -1
    log_s = torch.where(x < 0, -torch.log1p(-x.clamp(max=0)), torch.log1p(x.clamp(min=0)))
    return log_s - torch.log(log_s.exp().sum(dim=-1, keepdim=True))


@dataclass(frozen=True, slots=True)
class RowLosses:
    """Losses and accuracies of each row; zeros for rows without a scored token."""

    lm: Tensor
    """fp32 [B], cross-entropy averaged over the row's scored tokens."""
    q_halt: Tensor
    """fp32 [B], binary cross-entropy of the halting logit against `correct`."""
    correct: Tensor
    """bool [B], True where every scored token is correct."""
    accuracy: Tensor
    """fp32 [B], share of the scored tokens that are correct."""
    scored: Tensor
    """bool [B], True for rows with a scored token."""
    q_continue: Tensor | None = None
    """fp32 [B], binary cross-entropy of the continue logit; None if the network does not train it."""

    def total(self) -> Tensor:
        """Sum over the rows of lm + 0.5 (q_halt + q_continue); the caller divides by the global batch size."""
        halting = self.q_halt if self.q_continue is None else self.q_halt + self.q_continue
        return (self.lm + HALTING_WEIGHT * halting).sum()


def row_losses(model: RecursiveCore, output: Output, labels: Tensor) -> RowLosses:
    """Return losses of `output` against uint8 labels [B, L]; label 0 (PAD) is not scored, EOS is.

    `output` may have no logits. On a CPU the head is applied to the scored positions only. On other devices it is
    applied to all positions: counting the scored ones would synchronise host and device in every step, which costs more
    than a head of few classes.
    """
    mask = labels != 0
    counts = mask.sum(dim=1)
    total, num_right = (_packed if labels.device.type in PACKED_ON else _dense)(model, output, labels, mask)
    return losses_of_sums(output, total, num_right, counts)


def losses_of_sums(output: Output, total: Tensor, num_right: Tensor, counts: Tensor) -> RowLosses:
    """Return the losses of rows from sums over their scored tokens, [B]: cross-entropy, number correct, number."""
    divisor = counts.clamp(min=1).float()
    scored = counts > 0
    correct = scored & (num_right == counts)
    halting = F.binary_cross_entropy_with_logits(output.q_halt, correct.float(), reduction="none")
    continuing = None
    if output.continue_target is not None:
        continuing = F.binary_cross_entropy_with_logits(output.q_continue, output.continue_target, reduction="none")
        continuing = torch.where(scored, continuing, 0.0)
    return RowLosses(
        lm=total / divisor,
        q_halt=torch.where(scored, halting, 0.0),
        q_continue=continuing,
        correct=correct,
        accuracy=num_right / divisor,
        scored=scored,
    )


def _packed(model: RecursiveCore, output: Output, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums over each row's scored tokens, fp32 [B]: cross-entropy and number correct; head on those alone."""
    row, position = mask.nonzero(as_tuple=True)
    wanted = labels[row, position].long()
    if output.logits.numel():
        logits = output.logits[row, position]
    else:
        logits = model.lm_head(output.z_H[row, position + model.prefix_len])
    loss, right = surprise(logits, wanted)
    total, num_right = (torch.zeros(len(labels), device=loss.device).index_add(0, row, part) for part in (loss, right))
    return total, num_right


def surprise(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and correctness, fp32 [N], of logits [N, V] against int64 tokens [N]."""
    loss = F.nll_loss(log_stablemax(logits), wanted, reduction="none")
    return loss, (logits.detach().argmax(dim=-1) == wanted).float()


def _dense(model: RecursiveCore, output: Output, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of `_packed` from the head on all tokens, without synchronising with the device."""
    logits = output.logits if output.logits.numel() else model.predict(output.z_H)
    loss = -log_stablemax(logits).gather(-1, labels.long()[..., None]).squeeze(-1)
    right = (logits.detach().argmax(dim=-1) == labels) & mask
    return torch.where(mask, loss, 0.0).sum(dim=1), right.sum(dim=1).float()


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return fp32 [B], stablemax cross-entropy of logits [B, L, V] averaged over the scored cells of uint8 labels."""
    wanted = labels.long()
    scored = wanted != 0
    surprise = -log_stablemax(logits).gather(-1, wanted[..., None])[..., 0]
    return torch.where(scored, surprise, 0.0).sum(dim=1) / scored.sum(dim=1).clamp(min=1)
