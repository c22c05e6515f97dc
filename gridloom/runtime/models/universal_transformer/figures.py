"""Training figures over the positions of a Universal Transformer: hops, halts, remainders."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gridloom.runtime.models.universal_transformer.hops import Halted

NUM_POSITION_SUMS = 4
"""Sums before the histogram: positions, natural halts, remainders, squared remainders."""


def position_sums(halted: Halted, valid: Tensor, bins: int) -> Tensor:
    """Return fp32 [4 + bins]: sums over the valid positions, and their number by hops 1 .. bins."""
    steps = halted.steps.long().clamp(max=bins)
    # bin 0 takes the padding
    histogram = torch.bincount((steps * valid).flatten(), minlength=bins + 1)[1:]
    remainder = torch.where(valid, halted.remainder.detach(), 0.0)
    natural = valid & ~halted.forced
    sums = torch.stack([valid.sum(), natural.sum(), remainder.sum(), remainder.square().sum()])
    return torch.cat((sums, histogram.float()))


def quantile(histogram: Sequence[float], share: float) -> float:
    """Return the hops of the position at a share of the positions, ordered by hops: the smallest n with at least the
    share of the positions at n hops or fewer."""
    wanted, seen = share * sum(histogram), 0.0
    for number, count in enumerate(histogram, 1):
        seen += count
        if seen >= wanted:
            return float(number)
    return float(len(histogram))


def summarise(sums: Sequence[float], *, acts: bool) -> dict[str, float]:
    """Return figures by name of what `position_sums` returned; those of halting only with `acts`."""
    count, natural, remainder, squared, *histogram = sums
    if not count:
        return {}
    steps = sum(number * positions for number, positions in enumerate(histogram, 1)) / count
    figures = {
        "act_steps": steps,
        "act_steps_p50": quantile(histogram, 0.5),
        "act_steps_p90": quantile(histogram, 0.9),
    }
    if not acts:
        return figures
    mean = remainder / count
    return figures | {
        "halt_natural": natural / count,
        "halt_forced": 1 - natural / count,
        "remainder_mean": mean,
        "remainder_std": math.sqrt(max(0.0, squared / count - mean**2)),
    }
