"""Choice of the next token from log-probabilities: temperature, nucleus (top-p) sampling (arXiv 1904.09751), seed."""

from __future__ import annotations

import torch
from torch import Tensor


def nucleus(log_p: Tensor, temperature: float, top_p: float) -> Tensor:
    """Return the distribution fp64 [V] that is sampled from.

    Args:
        log_p: fp32 [V].
        temperature: above 0; below 1 sharpens.
        top_p: in (0, 1]; the fewest most likely tokens whose probabilities reach it are kept.
    """
    p = (log_p.double() / temperature).softmax(dim=-1)
    order = p.sort(descending=True, stable=True)
    before = order.values.cumsum(dim=-1) - order.values
    kept = torch.where(before < top_p, order.values, 0.0)  # the first token always stays
    chosen = torch.zeros_like(p).scatter(0, order.indices, kept)
    return chosen / chosen.sum()


def choose(log_p: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """Return a token: the most likely one at temperature 0, else one drawn from `nucleus`."""
    if temperature == 0:
        return int(log_p.argmax())
    p = nucleus(log_p.cpu(), temperature, top_p)
    draw = torch.rand((), generator=generator, dtype=torch.float64)
    # by the cumulative sum, so that equal distributions up to rounding give the same token for the same draw
    return min(int(torch.searchsorted(p.cumsum(dim=-1), draw, right=True)), len(p) - 1)
