"""Curves of a metric over training steps, from the ledger, named by what differs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gridloom.errors import GridloomError
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.names import find_run, short_ids
from gridloom.wording import did_you_mean, listed


@dataclass(frozen=True, slots=True)
class Curve:
    """Values of one metric of one stage of one run, in the order of the steps."""

    run_id: str
    stage: str
    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    times: tuple[float, ...]
    """When each value was recorded, seconds since the epoch."""


def read_curves(
    ledger: Ledger, metric: str | None, runs: Sequence[str] = (), stages: Sequence[str] = ()
) -> dict[str, list[Curve]]:
    """Return curves by metric: of one metric, or of all.

    Args:
        runs: ids or ends of ids; the newest run with such figures when empty.
        stages: only these; `learn` is also every `learn@2` of a sweep. All when empty.

    Raises:
        GridloomError: no such run, metric or stage, with the nearest.
    """
    chosen = [find_run(run, ledger) for run in runs] or _newest(ledger, metric)
    rows = ledger.rows(
        "select run_id, stage, name, step, value, epoch_us(recorded_at) / 1e6 as at from metrics "
        "where list_contains($runs, run_id) and ($name is null or name = $name) and value is not null "
        "order by run_id, stage, name, step",
        {"runs": chosen, "name": metric},
    )
    wanted = [row for row in rows if not stages or row["stage"] in stages or row["stage"].partition("@")[0] in stages]
    if not wanted:
        raise _nothing(ledger, metric, chosen, stages)
    labels = _labels(ledger, sorted({(row["run_id"], row["stage"]) for row in wanted}))
    found: dict[str, dict[tuple[str, str], list[Any]]] = {}
    for row in wanted:
        found.setdefault(row["name"], {}).setdefault((row["run_id"], row["stage"]), []).append(row)
    return {
        name: [
            Curve(
                *at,
                labels[at],
                tuple(int(row["step"]) for row in points),
                tuple(float(row["value"]) for row in points),
                tuple(float(row["at"]) for row in points),
            )
            for at, points in of.items()
        ]
        for name, of in found.items()
    }


def metric_names(ledger: Ledger, runs: Sequence[str] = ()) -> list[str]:
    """Return the names of recorded metrics, of some runs or of all."""
    rows = ledger.rows(
        "select distinct name from metrics where $all or list_contains($runs, run_id) order by name",
        {"all": not runs, "runs": list(runs)},
    )
    return [str(row["name"]) for row in rows]


def _newest(ledger: Ledger, metric: str | None) -> list[str]:
    rows = ledger.rows(
        "select run_id from metrics m left join runs using (run_id) where $name is null or m.name = $name "
        "group by run_id order by any_value(started_at) desc nulls last, run_id desc limit 1",
        {"name": metric},
    )
    return [str(row["run_id"]) for row in rows]


def _nothing(ledger: Ledger, metric: str | None, runs: Sequence[str], stages: Sequence[str]) -> GridloomError:
    names = metric_names(ledger, runs) or metric_names(ledger)
    if not names:
        return GridloomError("no figures of a training are recorded", "train something: gridloom run sudoku4")
    if metric is not None and metric not in names:
        return GridloomError(
            f"no metric is called '{metric}'", did_you_mean(metric, names, f"known: {listed(names, 20)}")
        )
    rows = ledger.rows("select distinct stage from metrics where list_contains($runs, run_id)", {"runs": list(runs)})
    known = sorted(str(row["stage"]) for row in rows)
    return GridloomError(f"no such figures of {listed(list(stages))}", f"stages with figures: {listed(known)}")


def _labels(ledger: Ledger, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Return a label for each (run, stage): the values of its sweep, the stage, the run where there are several."""
    run_ids = list(dict.fromkeys(run_id for run_id, _ in places))
    short, swept = short_ids(run_ids), {run_id: _swept(ledger, run_id) for run_id in run_ids}
    several = len({stage.partition("@")[0] for _, stage in places}) > 1
    found = {}
    for run_id, stage in places:
        values = swept[run_id].get(stage, {})
        parts = [short[run_id]] if len(run_ids) > 1 else []
        parts += [stage] if several or not values else []
        parts += [f"{path.rpartition('.')[2]}={value}" for path, value in values.items()]
        found[run_id, stage] = " ".join(parts)
    return found


def _swept(ledger: Ledger, run_id: str) -> dict[str, dict[str, Any]]:
    """Return the swept values that reach each stage of a run, by its name there."""
    rows = ledger.rows("select graph from runs where run_id = ?", [run_id])
    graph = json.loads(rows[0]["graph"]) if rows and rows[0]["graph"] else {}
    reached: dict[str, list[dict[str, Any]]] = {}
    for variant in graph.get("variants", ()):
        for node in variant["nodes"].values():
            reached.setdefault(node, []).append(variant["values"])
    return {
        # an axis whose values all reach the stage does not distinguish it from others
        node: {path: value for path, value in all_of[0].items() if all(one[path] == value for one in all_of)}
        for node, all_of in reached.items()
    }


def smoothed(values: Sequence[float], span: int) -> list[float]:
    """Return the mean of each value and of up to `span` - 1 before it."""
    found, total = [], 0.0
    for index, value in enumerate(values):
        total += value - (values[index - span] if index >= span else 0.0)
        found.append(total / min(index + 1, span))
    return found
