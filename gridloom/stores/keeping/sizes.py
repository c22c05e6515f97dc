"""Sizes as people write them."""

from __future__ import annotations

import re

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE | re.ASCII)


def size_bytes(text: str) -> int:
    """Return the bytes of a size: `20GB`, `500 MB`, `1.5GiB`, `4096`. Raises ValueError for anything else."""
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size: write 20GB, 500MB or bytes")
    unit = UNITS[found[2].lower()] if not found[3] else 2 ** (10 * " kmgt".index(found[2].lower()))
    return int(float(found[1]) * unit)
