"""Figures of joint training: totals over rows and steps, from which means are taken at a report or an epoch's end.

A mean over several steps is the mean over all their rows or all their attempts, not a mean of means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

METRICS = (
    "loss",
    "exact_match",
    "shape_match",
    "cell_accuracy",
    "oracle_exact_match",
    "avg_attempts",
    "avg_trm_steps",
    "avg_reasoning_length",
    "grad_norm",
)
"""Metrics of joint training. exact_match, shape_match and cell_accuracy score a row's first attempt; oracle_exact_match
scores its last, which the target helped to choose. avg_attempts is a mean over rows; avg_trm_steps (ACT steps to the
halt) and avg_reasoning_length (new tokens) are means over attempts; loss and grad_norm are means over steps."""

_TOTALS = (
    "steps",
    "loss",
    "grad_norm",
    "rows",
    "exact",
    "shape",
    "cells",
    "solved",
    "attempts",
    "trm_steps",
    "new_tokens",
)

_MEANS = {
    "loss": ("loss", "steps"),
    "exact_match": ("exact", "rows"),
    "shape_match": ("shape", "rows"),
    "cell_accuracy": ("cells", "rows"),
    "oracle_exact_match": ("solved", "rows"),
    "avg_attempts": ("attempts", "rows"),
    "avg_trm_steps": ("trm_steps", "attempts"),
    "avg_reasoning_length": ("new_tokens", "attempts"),
    "grad_norm": ("grad_norm", "steps"),
}
"""(total, divisor) of each of `METRICS`."""


class RowFigures(Protocol):
    """Figures of a row over its attempts."""

    first: tuple[bool, bool, float] | None
    """Exact match, shape match and cell accuracy of the first attempt."""
    solved: bool
    attempts: int
    trm_steps: int
    new_tokens: int


class JointTotals:
    """Sums since the last call of `take`."""

    def __init__(self, values: Mapping[str, float] | None = None) -> None:
        """Start at zero, or at the `values` of saved totals."""
        self.values = dict.fromkeys(_TOTALS, 0.0)
        self.values.update({name: float(value) for name, value in (values or {}).items()})

    def add(self, rows: Sequence[RowFigures], loss: float, grad_norm: float) -> None:
        """Add the rows, loss and gradient norm of a step."""
        firsts = [row.first for row in rows if row.first is not None]
        found = (
            1,
            loss,
            grad_norm,
            len(rows),
            *(sum(first[i] for first in firsts) for i in range(3)),
            sum(row.solved for row in rows),
            sum(row.attempts for row in rows),
            sum(row.trm_steps for row in rows),
            sum(row.new_tokens for row in rows),
        )
        for name, value in zip(_TOTALS, found, strict=True):
            self.values[name] += float(value)

    def take(self) -> dict[str, float]:
        """Return the means by name, and zero the sums. A mean over nothing is not defined: its name is absent."""
        t = self.values
        self.values = dict.fromkeys(_TOTALS, 0.0)
        return {name: t[total] / t[over] for name, (total, over) in _MEANS.items() if t[over]}
