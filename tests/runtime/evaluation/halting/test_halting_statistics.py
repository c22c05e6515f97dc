"""Statistics of a halting study against hand-computed cases and brute force."""

from __future__ import annotations

import numpy as np
import pytest

from gridloom.runtime.evaluation.halting.statistics import (
    Resamples,
    auc,
    correlation,
    false_accepts,
    halted_at,
    interval,
    ranks,
    reliability,
)


def test_ranks_of_ties_are_shared() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_correlation_of_a_constant_is_not_defined() -> None:
    values = np.array([1.0, 2.0, 4.0])
    assert correlation(values, -2 * values) == pytest.approx(-1)
    assert correlation(values, np.ones(3)) is None


def test_auc_counts_pairs() -> None:
    signal, right = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    assert auc(signal, right) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert auc(signal, np.ones(4, dtype=np.bool_)) is None


def test_reliability_of_two_bins() -> None:
    found = reliability(np.array([0.2, 0.4, 0.9, 1.0]), np.array([False, True, True, True]), 2)
    assert found.counts.tolist() == [2, 2]
    assert found.mean.tolist() == pytest.approx([0.3, 0.95])
    assert found.right.tolist() == [0.5, 1.0]
    assert found.ece == pytest.approx((2 * 0.2 + 2 * 0.05) / 4)


def test_an_empty_bin_adds_no_error() -> None:
    found = reliability(np.array([0.05, 0.95]), np.array([False, True]), 10)
    assert found.counts.sum() == 2
    assert found.ece == pytest.approx(0.05)


def test_false_accepts_at_the_level_of_right_rows() -> None:
    right = np.array([True] * 20 + [False] * 4)
    signal = np.concatenate([np.arange(20.0), [0.5, 1.0, 5.0, 30.0]])
    # 95% of the right rows have 1 and above: so do three of the four wrong ones
    assert false_accepts(signal, right) == 0.75
    assert false_accepts(signal, np.ones(24, dtype=np.bool_)) is None


def test_rows_halt_at_the_first_wish_or_at_the_limit() -> None:
    wants = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 0]], dtype=np.bool_)
    assert halted_at(wants, 3).tolist() == [3, 2, 1]
    assert halted_at(wants, 1).tolist() == [1, 1, 1]


def test_resampled_figures_equal_those_of_drawn_rows() -> None:
    generator = np.random.default_rng(0)
    signal, right = generator.integers(0, 5, 40).astype(float), generator.random(40) < 0.4
    other = signal + generator.random(40)
    resamples = Resamples(40, seed=1)
    assert resamples.shares.sum(axis=1) == pytest.approx(1, abs=1e-5)
    counts = np.rint(resamples.shares * 40).astype(int)
    drawn = [np.repeat(np.arange(40), row) for row in counts]
    aucs = np.array([auc(signal[rows], right[rows]) for rows in drawn], dtype=float)
    assert resamples.auc(signal, right) == pytest.approx(interval(aucs), abs=1e-5)
    found = np.array([correlation(signal[rows], other[rows]) for rows in drawn], dtype=float)
    assert resamples.correlation(signal, other) == pytest.approx(interval(found), abs=1e-4)
    means = np.array([other[rows].mean() for rows in drawn])
    assert resamples.means(other) == pytest.approx(means, abs=1e-4)


def test_an_interval_needs_defined_values() -> None:
    assert interval(np.array([np.nan, np.nan, np.nan, 1.0])) is None
    assert interval(np.array([0.0, 1.0])) == pytest.approx([0.025, 0.975])
