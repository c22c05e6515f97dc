"""Durations in a spec: seconds, or `90m`, `2h`, `1h30m`, `1d12h`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PATTERN = "^" + "".join(rf"([0-9]+(\.[0-9]+)?{unit})?" for unit in SECONDS) + "$"
FORMS = "seconds, or a time such as 90m, 2h or 1h30m"


@dataclass(frozen=True, slots=True)
class Takes:
    """Marker of a field whose type alone does not describe its values; diagnostics print `takes` instead."""

    takes: str
    remedy: str


Walltime = Annotated[
    Annotated[float, Field(ge=0)] | Annotated[str, Field(pattern=PATTERN, min_length=1)],
    Takes(FORMS, "units are d, h, m and s, in this order: 1d12h, 1h30m"),
]
"""Duration: seconds, or a text with units."""


def walltime_seconds(value: float | str) -> float:
    """Return a duration in seconds; a text may also be a plain number. Raises ValueError for anything else."""
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    if text and re.fullmatch(PATTERN[1:-1], text):
        parts = re.findall(r"([0-9]+(\.[0-9]+)?)([dhms])", text)
        return sum(float(number) * SECONDS[unit] for number, _, unit in parts)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    raise ValueError(f"{value!r} is not a duration: write {FORMS}")
