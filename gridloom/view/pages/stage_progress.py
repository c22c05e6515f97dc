"""Progress of stages that are going on: what is done of what there is, and the time left, from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gridloom.view.html import duration_text
from gridloom.view.reader import Session
from gridloom.wording import counted

if TYPE_CHECKING:
    from gridloom.compiler.graph import RunGraph

# the rate is that of the process that runs now: tasks of an earlier one took other machines, and a pause
_TASKS = """
WITH begun AS (
  SELECT greatest($started, max(started_at)) AS began FROM run_processes WHERE run_id = $run AND worker IS NULL
),
ended AS (
  SELECT p.task_id, max(a.ended_at) AS ended
  FROM (SELECT DISTINCT task_id FROM picks WHERE run_id = $run AND stage = $stage) p
  LEFT JOIN attempts a ON a.run_id = $run AND a.stage = $stage AND a.task_id = p.task_id AND a.fork = 0
  GROUP BY p.task_id
)
SELECT
  (SELECT count(*) FROM tasks WHERE run_id = $run AND stage = $stage) AS total,
  (SELECT count(*) FROM ended) AS done,
  count(*) AS lately,
  date_diff('microsecond', min(began), max(ended)) / 1e6 AS seconds
FROM ended, begun WHERE ended > began"""
_STEP = "SELECT step, value FROM v_metrics_latest WHERE run_id = $run AND stage = $stage AND name = 'steps_per_s'"


def stage_progress(
    session: Session, run_id: str, stages: Sequence[Mapping[str, Any]], graph: RunGraph | None
) -> dict[str, str]:
    """Return, by stage, the progress of those that are running: `12 of 400 tasks, 5 min left`.

    Tasks of a solve stage count when their picks are recorded, by whichever worker. Steps of a training are those of
    its last log. The time left assumes the rate so far.
    """
    specs = {node.name: node.spec for node in graph.nodes} if graph else {}
    found = {}
    for row in stages:
        if row["status"] != "running":
            continue
        name = row["stage"]
        text = _of_tasks(session, run_id, row) or _of_steps(session, run_id, name, specs.get(name, {}))
        if text:
            found[name] = text
    return found


def _of_tasks(session: Session, run_id: str, stage: Mapping[str, Any]) -> str:
    values = {"run": run_id, "stage": stage["stage"], "started": stage["started_at"]}
    row = session.one(_TASKS, values)
    if row is None or not row["total"]:
        return ""
    rate = row["lately"] / row["seconds"] if row["lately"] and row["seconds"] else None
    return _text(row["done"], row["total"], "task", rate)


def _of_steps(session: Session, run_id: str, stage: str, spec: Mapping[str, Any]) -> str:
    steps = spec.get("steps")
    row = session.one(_STEP, {"run": run_id, "stage": stage})
    if row is None or not isinstance(steps, int) or spec.get("budget") is not None:
        return ""
    return _text(row["step"], steps, "step", row["value"])


def _text(done: int, total: int, unit: str, rate: float | None) -> str:
    left = f", {duration_text((total - done) / rate)} left" if rate and total > done else ""
    return f"{done:,} of {counted(total, unit)}{left}"
