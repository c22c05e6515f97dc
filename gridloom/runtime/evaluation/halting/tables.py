"""Tables of a halting study, from the columns of all its rows: one `StudyRow` a value, as in the ledger and the report.

| part | series | x | value |
|---|---|---|---|
| steps | fixed, own | allowed steps | of `own`, share of rows that stop before the limit |
| threshold | score, residual, confidence, unchanged | threshold | |
| gain | own, and those of threshold | allowed steps or threshold | exact minus that of fixed steps of equal mean cost |
| difficulty | a measure | mean measure of the rows | mean steps until the answer is right and stays so |
| correlation | MEASURE, MEASURE.linear, MEASURE.needed | allowed steps | correlation of steps with the measure |
| reliability | q, q_at_halt, confidence, confidence_all | middle of the bin | mean signal |
| calibration | SIGNAL.auc, SIGNAL.ece, SIGNAL.false_accepts | allowed steps | the figure |
| residual | right, wrong | step | median residual |

`exact` and `cell_accuracy` are of the answers under the rule of the series, `mean_steps` and `operations` their cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.evaluation.halting.measure import Columns
from gridloom.runtime.evaluation.halting.statistics import (
    Bools,
    Floats,
    Resamples,
    auc,
    correlation,
    false_accepts,
    halted_at,
    interval,
    ranks,
    reliability,
)
from gridloom.runtime.evaluation.intervals import wilson

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Halting probabilities from which a row stops."""
CONFIDENCES = (1e-5, 1e-4, 1e-3, 0.003, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Products of the confidences of a row's positions from which it stops."""
RESIDUALS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)
"""Residuals below which a row stops."""
MOST_VALUES = 12
"""Distinct values of a difficulty above which it is divided into as many groups of about equal size."""


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A row of a study's tables."""

    part: str
    series: str
    x: float
    n: int
    exact: float | None = None
    cell_accuracy: float | None = None
    mean_steps: float | None = None
    operations: float | None = None
    """Operations of a row by the cost model."""
    value: float | None = None
    low: float | None = None
    """95% interval of `value`, or of `exact` in the parts steps and threshold; quartiles in the part residual."""
    high: float | None = None


class Ruled(NamedTuple):
    """Answers of n rows under one rule of halting."""

    exact: Bools
    right: NDArray[np.int64]
    steps: Floats


class Study:
    """Answers of n rows under every rule, and their signals.

    Attributes:
        limits: allowed steps, ascending.
        fixed_at: numbers of fixed steps that were run; every one up to the largest limit for ACT steps.
    """

    def __init__(
        self, columns: Columns, limits: Sequence[int], operations: Callable[[float], float], seed: int
    ) -> None:
        """Args: operations: mean steps -> operations of a row."""
        self.columns, self.limits, self.operations = columns, sorted(limits), operations
        self.seed, self.followed = seed, "margin" in columns
        self.most = self.limits[-1]
        self.fixed_at = list(range(1, self.most + 1)) if self.followed else self.limits
        self.num_rows = len(columns["scored"])
        self.num_scored = int(columns["scored"].sum())
        self.resamples = Resamples(self.num_rows, seed)
        self.curve = np.stack([self.fixed(limit).exact for limit in self.fixed_at]).astype(np.float64)
        """[m, n], right answers of each number of fixed steps."""
        self.difficulty = {
            name.removeprefix("difficulty."): values
            for name, values in columns.items()
            if name.startswith("difficulty.")
        }

    def fixed(self, limit: int) -> Ruled:
        """Return the answers after `limit` steps."""
        place = self.fixed_at.index(limit)
        name = "" if self.followed else "fixed_"
        steps = np.full(self.num_rows, float(limit))
        return Ruled(self.columns[f"{name}exact"][place], self.columns[f"{name}right"][place], steps)

    def own(self, limit: int) -> Ruled:
        """Return the answers by the network's own halting within `limit` steps."""
        if self.followed:
            return self.ruled(self.columns["margin"] > 0, limit)
        place = self.limits.index(limit)
        return Ruled(*(self.columns[f"own_{name}"][place] for name in ("exact", "right", "steps")))

    def ruled(self, wants: Bools, limit: int) -> Ruled:
        """Return the answers of rows that stop at the first of `wants` [N, n], or at the limit."""
        steps, row = halted_at(wants, limit), np.arange(self.num_rows)
        return Ruled(
            self.columns["exact"][steps - 1, row], self.columns["right"][steps - 1, row], steps.astype(np.float64)
        )

    def rules(self) -> Iterator[tuple[str, float, Ruled]]:
        """Yield the sweeps over thresholds within the largest limit: series, threshold, answers."""
        if not self.followed:
            return
        margin = self.columns["margin"].astype(np.float64)
        for threshold in THRESHOLDS:
            level = np.log(threshold / (1 - threshold))
            yield "score", threshold, self.ruled(margin > level, self.most)
        for threshold in CONFIDENCES:
            yield "confidence", threshold, self.ruled(self.columns["confidence_all"] > threshold, self.most)
        if "residual" in self.columns:
            for threshold in RESIDUALS:
                yield "residual", threshold, self.ruled(self.columns["residual"] < threshold, self.most)
        yield "unchanged", 1.0, self.ruled(self.columns["same"], self.most)

    def row(self, part: str, series: str, x: float, found: Ruled, **more: Any) -> StudyRow:
        """Return the row of a rule, with the interval of its exact answers unless `more` has one."""
        exact, steps = float(found.exact.mean()), float(found.steps.mean())
        low, high = wilson(exact, self.num_rows)
        accuracy = float(found.right.sum()) / max(self.num_scored, 1)
        return StudyRow(
            part,
            series,
            x,
            self.num_rows,
            exact,
            accuracy,
            steps,
            self.operations(steps),
            **({"low": low, "high": high} | more),
        )

    def gain(self, found: Ruled) -> tuple[float, list[float]] | None:
        """Return by how much exact answers exceed those of fixed steps of equal mean cost, and the interval.

        Fixed steps of a mean cost between two numbers are a mixture of both: the share is interpolated. The interval is
        of a paired bootstrap over rows, which draws the mean cost too. None where the cost lies outside the fixed ones.
        """
        exact, steps = found.exact.astype(np.float64), found.steps.astype(np.float64)
        value = self._gains(steps.mean()[None], exact.mean()[None], self.curve.mean(axis=1)[:, None])[0]
        if np.isnan(value):
            return None
        drawn = self.resamples.means(np.concatenate([steps[None], exact[None], self.curve]))
        bounds = interval(self._gains(drawn[0], drawn[1], drawn[2:]))
        return None if bounds is None else (float(value), bounds)

    def _gains(
        self, cost: NDArray[np.float64], exact: NDArray[np.float64], curve: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return exact answers [r] minus those of fixed steps [m, r] at costs [r]; NaN where a cost lies outside."""
        at = np.array(self.fixed_at, dtype=np.float64)
        upper = np.searchsorted(at, cost - 1e-6).clip(0, len(at) - 1)
        lower = np.maximum(upper - 1, 0)
        width = at[upper] - at[lower]
        weight = np.divide(cost - at[lower], width, out=np.ones_like(cost), where=width > 0)
        draw = np.arange(len(cost))
        mixed = (1 - weight) * curve[lower, draw] + weight * curve[upper, draw]
        # fp32 sums of a cost at the bounds may lie just outside
        inside = (cost >= at[0] - 1e-4) & (cost <= at[-1] + 1e-4)
        found: NDArray[np.float64] = np.where(inside, exact - mixed, np.nan)
        return found

    def gain_row(self, series: str, x: float, found: Ruled) -> list[StudyRow]:
        """Return the row of a rule's gain; none where its cost lies outside those of fixed steps."""
        gained = self.gain(found)
        if gained is None:
            return []
        value, (low, high) = gained
        return [self.row("gain", series, x, found, value=value, low=low, high=high)]

    def needed(self) -> NDArray[np.float64] | None:
        """Return the step from which the answer of each row is right and stays so, NaN where it is wrong at last."""
        if not self.followed:
            return None
        kept = np.flip(np.logical_and.accumulate(np.flip(self.columns["exact"], axis=0), axis=0), axis=0)
        first = kept.argmax(axis=0) + 1.0
        found: NDArray[np.float64] = np.where(kept[-1], first, np.nan)
        return found

    def signals(self) -> dict[str, tuple[Floats, Bools]]:
        """Return the signals of a right answer, higher where it is surer, each with the answers that it belongs to."""
        own = self.own(self.most)
        if not self.followed:
            q, right = _probability(self.columns["q"]), own.exact
            found = {name: (self.columns[name], right) for name in ("confidence", "confidence_all")}
            return {"q": (q, right), **found, "steps": (-own.steps, right)}
        last = self.columns["exact"][-1]
        found = {name: (self.columns[name][-1], last) for name in ("confidence", "confidence_all")}
        q = self.columns["q"]
        at_halt = q[own.steps.astype(np.int64) - 1, np.arange(self.num_rows)]
        found = {"q": (_probability(q[-1]), last), "q_at_halt": (_probability(at_halt), own.exact), **found}
        if "residual" in self.columns and not np.isnan(self.columns["residual"][-1]).any():
            found["residual"] = (-self.columns["residual"][-1], last)
        return {**found, "steps": (-own.steps, own.exact)}


def _probability(logits: Floats) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        found: NDArray[np.float64] = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return found


SCALES = ("q", "q_at_halt", "confidence", "confidence_all")
"""Signals that can be read as probabilities."""


def tables(study: Study, bins: int) -> list[StudyRow]:
    """Return every row of a study."""
    rows: list[StudyRow] = []
    for limit in study.limits:
        own = study.own(limit)
        rows.append(study.row("steps", "fixed", limit, study.fixed(limit)))
        rows.append(study.row("steps", "own", limit, own, value=float((own.steps < limit).mean())))
        rows += study.gain_row("own", limit, own)
    for series, threshold, found in study.rules():
        rows.append(study.row("threshold", series, threshold, found))
        rows += study.gain_row(series, threshold, found)
    rows += _difficulty(study)
    rows += _calibration(study, bins)
    if study.followed and "residual" in study.columns:
        rows += _residuals(study)
    return rows


def _groups(values: Floats) -> list[Bools]:
    """Return the rows of each value, or of each of `MOST_VALUES` groups of neighbouring values, as masks."""
    distinct = np.unique(values)
    if len(distinct) <= MOST_VALUES:
        return [values == value for value in distinct]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, MOST_VALUES + 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [place == number for number in range(len(edges) - 1) if (place == number).any()]


def _difficulty(study: Study) -> Iterator[StudyRow]:
    own, needed = study.own(study.most), study.needed()
    scored = study.columns["scored"]
    for name, values in study.difficulty.items():
        for group in _groups(values):
            known = None if needed is None else needed[group][~np.isnan(needed[group])]
            yield StudyRow(
                "difficulty",
                name,
                float(values[group].mean()),
                int(group.sum()),
                exact=float(own.exact[group].mean()),
                cell_accuracy=float(own.right[group].sum()) / max(int(scored[group].sum()), 1),
                mean_steps=float(own.steps[group].mean()),
                operations=study.operations(float(own.steps[group].mean())),
                value=None if known is None or not len(known) else float(known.mean()),
            )
        yield from _correlations(study, name, values, own.steps, needed)


def _correlations(study: Study, name: str, values: Floats, steps: Floats, needed: Floats | None) -> Iterator[StudyRow]:
    wanted = [(name, ranks(values), ranks(steps)), (f"{name}.linear", values, steps)]
    resamples = study.resamples
    for series, a, b in wanted:
        value = correlation(a, b)
        if value is not None:  # else steps or difficulty are the same in all rows
            low, high = resamples.correlation(a, b) or (None, None)
            yield StudyRow("correlation", series, float(study.most), len(a), value=value, low=low, high=high)
    known = np.zeros(len(values), dtype=np.bool_) if needed is None else ~np.isnan(needed)
    if needed is not None and known.any():
        a, b = ranks(values[known]), ranks(needed[known])
        value = correlation(a, b)
        if value is not None:
            low, high = Resamples(len(a), study.seed).correlation(a, b) or (None, None)
            series = f"{name}.needed"
            yield StudyRow("correlation", series, float(study.most), len(a), value=value, low=low, high=high)


def _calibration(study: Study, bins: int) -> Iterator[StudyRow]:
    for name, (signal, right) in study.signals().items():
        exact = float(right.mean())
        if name in SCALES:
            found = reliability(signal, right, bins)
            for place in np.flatnonzero(found.counts):
                share, number = float(found.right[place]), int(found.counts[place])
                low, high = wilson(share, number)
                middle = (place + 0.5) / bins
                mean = float(found.mean[place])
                yield StudyRow("reliability", name, middle, number, exact=share, value=mean, low=low, high=high)
            yield StudyRow("calibration", f"{name}.ece", study.most, len(right), exact=exact, value=found.ece)
        value = auc(signal, right)
        if value is None:
            continue

        least, most = study.resamples.auc(signal, right) or (None, None)
        yield StudyRow(
            "calibration", f"{name}.auc", study.most, len(right), exact=exact, value=value, low=least, high=most
        )
        accepted = false_accepts(signal, right)
        series = f"{name}.false_accepts"
        yield StudyRow("calibration", series, study.most, int((~right).sum()), exact=exact, value=accepted)


def _residuals(study: Study) -> Iterator[StudyRow]:
    right = study.columns["exact"][-1]
    for step in range(1, study.most + 1):
        residual = study.columns["residual"][step - 1]
        if np.isnan(residual).any():
            continue
        for series, rows in (("right", right), ("wrong", ~right)):
            if rows.any():
                low, middle, high = (float(v) for v in np.quantile(residual[rows], [0.25, 0.5, 0.75]))
                number = int(rows.sum())
                yield StudyRow("residual", series, step, number, value=middle, low=low, high=high)
