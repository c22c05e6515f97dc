"""Widths of sums in digits."""

from __future__ import annotations

import math


def sum_width(digits: int, numbers: int) -> int:
    """Return the number of digits of the largest sum: 6 for five numbers of five digits."""
    return digits + math.ceil(math.log10(numbers))
