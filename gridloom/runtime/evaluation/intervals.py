"""Confidence intervals of shares."""

from __future__ import annotations

import math
from collections.abc import Sequence


def wilson(share: float, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share observed over `number` cases; (0, 1) for no cases."""
    if number == 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * number)) / (1 + z * z / number)
    half = z / (1 + z * z / number) * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    # at shares 0 and 1 one bound is exactly 0 or 1, which rounding would miss
    return 0.0 if share == 0 else centre - half, 1.0 if share == 1 else centre + half


def share_text(share: float, interval: Sequence[float]) -> str:
    """Return a share and its interval as text: 32.1% [22.7, 43.0]."""
    low, high = interval
    return f"{share:.1%} [{100 * low:.1f}, {100 * high:.1f}]"
