"""Tables of a halting study from columns whose figures are known by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gridloom.runtime.evaluation.halting.tables import Study, StudyRow, tables


def followed() -> dict[str, Any]:
    """Four rows over three steps: right from step 1, from 2, from 3, never; halting when right, the last row never."""
    exact = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]], dtype=np.bool_)
    return {
        "exact": exact,
        "right": np.where(exact, 2, 1),
        "same": np.zeros((3, 4), dtype=np.bool_),
        "q": np.where(exact, 3.0, -3.0).astype(np.float32),
        "margin": np.where(exact, 1.0, -1.0).astype(np.float32),
        "confidence": np.where(exact, 0.9, 0.6).astype(np.float32),
        "confidence_all": np.where(exact, 0.8, 0.3).astype(np.float32),
        "residual": np.where(exact, 0.01, 0.9).astype(np.float32),
        "scored": np.full(4, 2),
        "difficulty.blanks": np.array([1.0, 2.0, 3.0, 4.0]),
    }


def pondered() -> dict[str, Any]:
    """Four rows under limits 1 and 3: own halting is right for all at 2 mean steps, fixed steps for half and all."""
    return {
        "fixed_exact": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=np.bool_),
        "own_exact": np.array([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=np.bool_),
        "fixed_right": np.array([[1, 1, 0, 0], [1, 1, 1, 1]]),
        "own_right": np.array([[1, 1, 0, 0], [1, 1, 1, 1]]),
        "own_steps": np.array([[1, 1, 1, 1], [1, 1, 3, 3]], dtype=np.float32),
        "q": np.array([1, 2, 3, np.inf], dtype=np.float32),
        "confidence": np.full(4, 0.9, dtype=np.float32),
        "confidence_all": np.full(4, 0.9, dtype=np.float32),
        "scored": np.ones(4, dtype=np.int64),
        "difficulty.length": np.array([1.0, 1.0, 2.0, 2.0]),
    }


def found(columns: dict[str, Any], limits: list[int], bins: int = 10) -> dict[tuple[str, str], list[StudyRow]]:
    rows = tables(Study(columns, limits, lambda steps: 100 * steps, seed=0), bins)
    by_series: dict[tuple[str, str], list[StudyRow]] = {}
    for row in rows:
        by_series.setdefault((row.part, row.series), []).append(row)
    return by_series


def test_fixed_steps_and_own_halting_of_a_followed_network() -> None:
    rows = found(followed(), [1, 3])
    assert [(row.x, row.exact, row.mean_steps) for row in rows["steps", "fixed"]] == [(1, 0.25, 1.0), (3, 0.75, 3.0)]
    own = rows["steps", "own"][-1]
    assert (own.exact, own.mean_steps, own.value, own.operations) == (0.75, (1 + 2 + 3 + 3) / 4, 0.5, 225.0)
    assert own.cell_accuracy == (2 + 2 + 2 + 1) / 8


def test_gain_is_over_the_mixture_of_fixed_steps_of_equal_cost() -> None:
    (row,) = [row for row in found(followed(), [3])["gain", "own"] if row.x == 3]
    # 2.25 mean steps: three quarters of the rows stop after 2 (half are right), a quarter after 3 (three quarters are)
    assert row.value == pytest.approx(0.75 - (0.75 * 0.5 + 0.25 * 0.75))
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.value <= row.high


def test_thresholds_sweep_the_signal() -> None:
    rows = found(followed(), [3])
    scores = {row.x: row for row in rows["threshold", "score"]}
    assert scores[0.05].mean_steps == 1.0, "every margin is above that of 5%"
    assert scores[0.5].mean_steps == 2.25
    assert scores[0.999].mean_steps == 3.0
    residuals = {row.x: row for row in rows["threshold", "residual"]}
    assert (residuals[1.0].mean_steps, residuals[0.1].mean_steps, residuals[0.01].mean_steps) == (1.0, 2.25, 3.0)


def test_steps_follow_difficulty() -> None:
    rows = found(followed(), [3])
    assert [(row.x, row.mean_steps, row.value) for row in rows["difficulty", "blanks"]] == [
        (1.0, 1.0, 1.0),
        (2.0, 2.0, 2.0),
        (3.0, 3.0, 3.0),
        (4.0, 3.0, None),
    ]
    (needed,) = rows["correlation", "blanks.needed"]
    assert needed.value == pytest.approx(1)
    assert needed.n == 3, "the row that is wrong at last needs no known number of steps"
    (rank,) = rows["correlation", "blanks"]
    assert rank.value == pytest.approx(np.corrcoef([1, 2, 3, 4], [1, 2, 3.5, 3.5])[0, 1])


def test_perfect_signals_separate_right_from_wrong() -> None:
    rows = found(followed(), [3])
    for signal in ("q", "residual", "confidence_all"):
        assert rows["calibration", f"{signal}.auc"][0].value == 1.0
        assert rows["calibration", f"{signal}.false_accepts"][0].value == 0.0
    probability = 1 / (1 + np.exp(-3))
    assert rows["calibration", "q.ece"][0].value == pytest.approx(1 - probability)
    assert sum(row.n for row in rows["reliability", "q"]) == 4
    assert [row.value for row in rows["residual", "wrong"]] == pytest.approx([0.9] * 3)


def test_a_pondering_network_is_compared_at_its_limits() -> None:
    rows = found(pondered(), [1, 3])
    own = rows["steps", "own"][-1]
    assert (own.exact, own.mean_steps, own.value) == (1.0, 2.0, 0.5)
    (gain,) = [row for row in rows["gain", "own"] if row.x == 3]
    # 2 steps lie between the limits 1 and 3: half and all of the rows are right
    assert gain.value == pytest.approx(0.25)
    assert ("threshold", "score") not in rows
    assert rows["calibration", "q.ece"][0].value is not None
    assert ("calibration", "q.auc") not in rows, "no answer is wrong"


def test_a_cost_outside_the_fixed_ones_has_no_gain() -> None:
    columns = pondered() | {"own_steps": np.array([[1, 1, 1, 1], [4, 4, 4, 4]], dtype=np.float32)}
    assert [row.x for row in found(columns, [1, 3])["gain", "own"]] == [1]


def test_many_values_of_difficulty_are_grouped() -> None:
    columns = followed()
    wide = {name: np.repeat(values, 25, axis=-1) for name, values in columns.items()}
    wide["difficulty.blanks"] = np.arange(100.0)
    groups = found(wide, [3])["difficulty", "blanks"]
    assert len(groups) == 12
    assert sum(row.n for row in groups) == 100
    assert {row.n for row in groups} <= {8, 9}
