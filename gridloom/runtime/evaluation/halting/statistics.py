"""Statistics of a halting study: ranks, correlation, AUC, reliability bins, bootstrap intervals. NumPy alone."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
RESAMPLES = 1000
"""Bootstrap resamples of an interval."""


def ranks(values: Floats) -> NDArray[np.float64]:
    """Return the ranks from 1 of values [n], ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return found


def correlation(a: Floats, b: Floats) -> float | None:
    """Return Pearson's correlation of values [n]; None where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else None


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Return Spearman's correlation of values [n]; None where one of them does not vary."""
    return correlation(ranks(a), ranks(b))


def auc(signal: Floats, right: Bools) -> float | None:
    """Return the probability that a right row has a higher signal than a wrong one, ties counting half; None without
    rows of both kinds."""
    positive = int(right.sum())
    negative = len(right) - positive
    if not positive or not negative:
        return None
    above = float(ranks(signal)[right].sum()) - positive * (positive + 1) / 2
    return above / (positive * negative)


class Reliability(NamedTuple):
    """Reliability of a signal in [0, 1] read as the probability of a right answer, by bins of equal width."""

    counts: NDArray[np.int64]
    """int64 [bins]"""
    mean: NDArray[np.float64]
    """Mean signal of each bin; NaN for an empty one."""
    right: NDArray[np.float64]
    """Share of right answers of each bin; NaN for an empty one."""
    ece: float
    """Expected calibration error: |mean - right|, weighted by the counts (arXiv 1706.04599)."""


def reliability(signal: Floats, right: Bools, bins: int) -> Reliability:
    """Return the reliability of a signal [n] over `bins` bins; 1 belongs to the last bin."""
    place = np.minimum((signal * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(place, weights=signal, minlength=bins) / counts
        share = np.bincount(place, weights=right.astype(np.float64), minlength=bins) / counts
    gap = np.where(counts > 0, np.abs(mean - share), 0.0)
    return Reliability(counts, mean, share, float((gap * counts).sum() / counts.sum()))


def false_accepts(signal: Floats, right: Bools, kept: float = 0.95) -> float | None:
    """Return the share of wrong rows whose signal reaches the level that the share `kept` of right rows reaches."""
    if not right.any() or right.all():
        return None
    number = math.ceil(kept * int(right.sum()) - 1e-9)  # of right rows that reach the level
    level = np.sort(signal[right])[-number]
    return float((signal[~right] >= level).mean())


class Resamples:
    """Bootstrap over n rows: how often each resample draws each row, as shares.

    Intervals are 95% percentile intervals. Figures of ranks use the ranks of all rows in each resample.
    """

    def __init__(self, num_rows: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        drawn = generator.integers(0, num_rows, (RESAMPLES, num_rows))
        place = drawn + num_rows * np.arange(RESAMPLES)[:, None]
        counts = np.bincount(place.ravel(), minlength=RESAMPLES * num_rows).reshape(RESAMPLES, num_rows)
        self.shares: NDArray[np.float32] = (counts / num_rows).astype(np.float32)
        """fp32 [RESAMPLES, n], each row of sum 1."""

    def means(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Return the means of values [n] or [m, n] in each resample: [RESAMPLES] or [m, RESAMPLES]."""
        found: NDArray[np.float64] = (values.astype(np.float32) @ self.shares.T).astype(np.float64)
        return found

    def correlation(self, a: Floats, b: Floats) -> list[float] | None:
        """Return the interval of Pearson's correlation."""
        a, b = a - a.mean(), b - b.mean()
        mean_a, mean_b, both, square_a, square_b = self.means(np.stack([a, b, a * b, a * a, b * b]))
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (both - mean_a * mean_b) / np.sqrt((square_a - mean_a**2) * (square_b - mean_b**2))
        return interval(found)

    def auc(self, signal: Floats, right: Bools) -> list[float] | None:
        """Return the interval of `auc`."""
        _, level = np.unique(signal, return_inverse=True)
        order = np.argsort(level, kind="stable")
        shares, ends = self.shares[:, order], np.flatnonzero(np.diff(level[order], append=-1))
        positive, negative = (
            np.diff(np.cumsum(np.where(rows[order], shares, 0), axis=1, dtype=np.float64)[:, ends], axis=1, prepend=0)
            for rows in (right, ~right)
        )
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            found = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        return interval(found)


def interval(values: NDArray[np.float64]) -> list[float] | None:
    """Return the 95% percentile interval of resampled values; None where fewer than half of them are defined."""
    defined = values[np.isfinite(values)]
    if len(defined) < len(values) / 2:
        return None
    low, high = np.quantile(defined, [0.025, 0.975])
    return [float(low), float(high)]


def halted_at(wants: Bools, limit: int) -> NDArray[np.int64]:
    """Return the step, from 1, at which each row halts: the first of `wants` [steps, n], or the limit."""
    asked = wants[:limit].copy()
    asked[limit - 1] = True
    found: NDArray[np.int64] = asked.argmax(axis=0) + 1
    return found
