"""Values of `--on` and `where`: here, local:N, ray[:N], ray://HOST:PORT, slurm:PARTITION, srun[:N], torchrun:N."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from gridloom.errors import GridloomError

FORMS = (
    "here, local:N, torchrun:N, ray, ray:N, ray://HOST:PORT, HOST:PORT of a Ray cluster, slurm:PARTITION, srun, "
    "or srun:N in an allocation of Slurm"
)
"""Forms of a place, as messages list them."""
MOST_WORKERS = 10_000
"""Largest number of workers that a place may ask for."""


@dataclass(frozen=True, slots=True)
class Where:
    """Place of a run's work."""

    kind: Literal["here", "local", "ray", "slurm", "srun", "torchrun"]
    num_workers: int | None = None
    """Number of worker processes; None where the cluster's size gives it."""
    address: str = ""
    """Address of a Ray cluster (`auto`, `local`, `ray://HOST:PORT`, `HOST:PORT`), or partition of Slurm."""

    def __str__(self) -> str:
        """Return the value as a user types it."""
        if self.kind == "here":
            return self.kind
        if self.kind in ("local", "torchrun"):
            return f"{self.kind}:{self.num_workers}"
        if self.kind == "srun":
            return f"srun:{self.num_workers}" if self.num_workers else "srun"
        if self.kind == "slurm":
            return f"slurm:{self.address}"
        head = "ray" if self.address == "auto" else self.address
        return f"{head}:{self.num_workers}" if self.num_workers and head == "ray" else head


def parse_where(text: str) -> Where:
    """Return the place that a value names. Raises GridloomError that lists the forms."""
    if text == "here":
        return Where("here")
    if found := re.fullmatch(r"(local|torchrun):([0-9]{1,9})", text):
        return Where("local" if found[1] == "local" else "torchrun", _number(text, found[2]))
    if found := re.fullmatch(r"srun(?::([0-9]{1,9}))?", text):
        return Where("srun", None if found[1] is None else _number(text, found[1]))
    if found := re.fullmatch(r"(?:ray|auto)(?::([0-9]{1,9}))?", text):
        return Where("ray", None if found[1] is None else _number(text, found[1]), "auto")
    if re.fullmatch(r"ray://[^\s/:]+:[0-9]{1,5}|[^\s/:]+:[0-9]{1,5}", text) and not text.startswith("slurm:"):
        return Where("ray", None, text)
    if found := re.fullmatch(r"slurm:([A-Za-z0-9_.,-]+)", text):
        return Where("slurm", None, found[1])
    raise GridloomError(f"--on {text!r} is no place", f"write {FORMS}")


def _number(text: str, digits: str) -> int:
    number = int(digits)
    if not 1 <= number <= MOST_WORKERS:
        raise GridloomError(f"--on {text!r} asks for {number} processes", f"write 1 to {MOST_WORKERS:,}")
    return number
