"""Training figures of the ACT-RNN, as one vector of sums over rows, inputs and optimizer steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

STEP_FIGURES = ("loss", "loss_classification", "loss_ponder", "ponder_weight")
"""Means over optimizer steps: loss, its two parts, and the weight tau of the ponder cost."""
BY_ROW = ("exact_match", "cell_accuracy")
"""Means over the rows with a scored answer."""
BY_INPUT = ("act_steps", "ponder_raw", "halt_natural", "halt_forced", "remainder_mean")
"""Means over the inputs of all rows: N, N + R, whether the halting unit or the limit ended the pondering, and R."""
FROM_ALL = ("remainder_std", "act_steps_p50", "act_steps_p90")
"""Standard deviation of R over the inputs, and quantiles of N: the fewest steps within which that share of the inputs
halted."""
ROW_FIGURES = (*BY_ROW, *BY_INPUT, *FROM_ALL)
NUM_SUMS = 14
"""Sums before the histogram of N: loss, its two parts; exact rows, accuracies, rows; N, R, A_N, natural halts and R
squared over the inputs; tau, inputs, inputs that halt."""


def figure_sums(output: Any, losses: Any, batch_size: int, bins: int) -> Tensor:
    """Return the sums of a micro-batch, fp32 [NUM_SUMS + bins].

    Args:
        output: ActRnnOutput.
        losses: ActRnnLosses.
        bins: size of the histogram of N, which counts 1 ... bins.
    """
    facts, right, num_scored = output.pondered.facts, losses.num_right, losses.num_scored
    # one type throughout: joining tensors of several types copies them one by one
    scored = (num_scored > 0).to(facts.dtype)
    classification, ponder = losses.classification.detach(), losses.ponder.detach()
    exact, accuracy = (right == num_scored) * scored, right / num_scored.clamp(min=1)
    by_row = torch.stack((classification + ponder, classification, ponder, exact, accuracy, scored))
    # N, R and the rest are 0 behind a row's length
    by_input = facts[0] if len(facts) == 1 else facts.sum(dim=0)
    squares = facts[:, 1].square().sum(dim=0, keepdim=True)
    sums = torch.cat((by_row, by_input, squares)).sum(dim=1)
    sums[:3].div_(batch_size)
    num_inputs = facts.shape[0] * facts.shape[2] if output.lengths is None else int(output.lengths.sum())
    tau = losses.weight * scored.shape[0] / batch_size
    known = facts.new_tensor([tau, float(num_inputs), 0.0 if output.fixed else float(num_inputs)])
    histogram = torch.bincount(facts[:, 0].flatten().long().clamp_(max=bins), minlength=bins + 1).to(facts.dtype)
    return torch.cat((sums, known, histogram[1:]))


def means_of(sums: Sequence[float], steps: float) -> dict[str, float]:
    """Return the means by name; a mean over nothing is absent."""
    loss, classification, ponder, exact, accuracy, rows, *rest = sums
    ponder_steps, remainder, _, natural, squares, tau, inputs, halting, *histogram = rest
    means: dict[str, float] = {}
    if steps:
        totals = (loss, classification, ponder, tau)
        means |= {name: total / steps for name, total in zip(STEP_FIGURES, totals, strict=True)}
    if rows:
        means |= {name: total / rows for name, total in zip(BY_ROW, (exact, accuracy), strict=True)}
    if inputs:
        by_input = (ponder_steps, ponder_steps + remainder, natural, halting - natural, remainder)
        means |= {name: total / inputs for name, total in zip(BY_INPUT, by_input, strict=True)}
        means["remainder_std"] = max(0.0, squares / inputs - means["remainder_mean"] ** 2) ** 0.5
        below = list(accumulate(histogram))
        for name, share in (("act_steps_p50", 0.5), ("act_steps_p90", 0.9)):
            means[name] = float(1 + next(n for n, count in enumerate(below) if count >= share * below[-1]))
    return means
