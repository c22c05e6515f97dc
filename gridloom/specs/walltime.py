"""Durations in a spec: seconds, or `90m`, `2h`, `1h30m`, `1d12h`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
PATTERN = "^" + "".join(rf"([0-9]+(\.[0-9]+)?{unit})?" for unit in SECONDS) + "$"
MAX_S = 1e9
"""Longest duration in seconds, 31 years; timers of the system take no more than nine times that."""
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
    """Return a duration in seconds, at most MAX_S; a text may also be a plain number. Raises ValueError else."""
    if not isinstance(value, str):
        return float(min(value, MAX_S))
    text = value.strip()
    if text and re.fullmatch(PATTERN[1:-1], text):
        parts = re.findall(r"([0-9]+(\.[0-9]+)?)([dhms])", text)
        return min(sum(float(number) * SECONDS[unit] for number, _, unit in parts), MAX_S)
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return min(float(text), MAX_S)
    raise ValueError(f"{value!r} is not a duration: write {FORMS}")
