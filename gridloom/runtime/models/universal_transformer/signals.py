"""Position and hop signals: sinusoids of an index, of a cell's row and column, and of the number of a hop.

Width H, index i from 0, k = 0 .. H/2 - 1: angle(i, k) = i * 10000^(-k / (H/2 - 1)); the first half of the signal is the
sine, the second the cosine, and an odd H has one zero column (Vaswani et al. 2017, in the layout of tensor2tensor).
Signals are computed when they are needed and kept by length, so that longer rows and more hops than in training run.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_TIMESCALE = 10_000.0


def sinusoid(index: Tensor, width: int) -> Tensor:
    """Return the signal fp32 [N, H] of integer or fp32 indices [N]."""
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=index.device)
    scales = torch.exp(steps * (-math.log(MAX_TIMESCALE) / max(half - 1, 1)))
    angles = index.float()[:, None] * scales
    return F.pad(torch.cat((angles.sin(), angles.cos()), dim=1), (0, width % 2))


def square_sinusoid(side: int, width: int) -> Tensor:
    """Return the signal fp32 [side * side, H] of square cells: of the row in the first half, then of the column.

    Of an odd H the column's half is one wider.
    """
    index = torch.arange(side)
    rows = sinusoid(index, width // 2).repeat_interleave(side, dim=0)
    columns = sinusoid(index, width - width // 2).repeat(side, 1)
    return torch.cat((rows, columns), dim=1)


class Signals:
    """Signals of one width, kept by length, device and dtype; no weights."""

    def __init__(self, width: int, kind: str) -> None:
        """Args: kind: value of `positions`; 'learned' and 'none' have no sinusoid of positions."""
        self.width, self.kind = width, kind
        self._positions: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}
        self._hops: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def positions(self, length: int, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """Return the position signal [L, H] of a row; None without one."""
        if self.kind not in ("sinusoid", "sinusoid_2d"):
            return None
        key = length, device, dtype
        if key not in self._positions:
            if self.kind == "sinusoid":
                found = sinusoid(torch.arange(length), self.width)
            else:
                found = square_sinusoid(math.isqrt(length), self.width)
            self._positions[key] = found.to(device, dtype)
        return self._positions[key]

    def hop(self, number: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the signal [H] of a hop, counted from 0."""
        key = device, dtype
        if key not in self._hops or len(self._hops[key]) <= number:
            self._hops[key] = sinusoid(torch.arange(max(16, 2 * number)), self.width).to(device, dtype)
        return self._hops[key][number]
