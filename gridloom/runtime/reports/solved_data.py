"""What a solve made, as data: picks and outcome of each task, reports of the stages that score, the run's stages."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gridloom.compiler.graph import RunGraph
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.stores.evaluation_records import PuzzlePredictionRecord
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import PickRecord
from gridloom.stores.workspace import Workspace

REPORTED = ("score", "evaluate", "halting_study", "count_votes", "ablate")
"""Kinds of node whose report a run ends with."""
COLUMNS = ("task_id", "stage", "tests", "attempts", "accepted", "solved", "pass1", "pass2", "cell_accuracy", "seconds")
"""Columns of v_tasks that a solved task has; those of a score are null where no answer is known."""


def solved_data(result: RunResult, graph: RunGraph, workspace: Workspace) -> dict[str, Any]:
    """Return the results of a run with solve stages.

    A stage that was cached has the attempts and picks of the run that recorded them.
    """
    ledger, tasks = Ledger(workspace), []
    for node in graph.nodes:
        if node.kind == "solve" and node.name in result.artifacts:
            producer = result.artifacts[node.name].manifest["producer"]
            tasks += _tasks(ledger, node.name, producer["run_id"], producer["stage"])
    return {**_run(result, graph), "tasks": tasks, "reports": _reports(result, graph)}


def answered_data(result: RunResult, graph: RunGraph, found: list[PuzzlePredictionRecord]) -> dict[str, Any]:
    """Return the results of a run that answered puzzles."""
    return {**_run(result, graph), "puzzles": [asdict(one) for one in found], "reports": _reports(result, graph)}


def _run(result: RunResult, graph: RunGraph) -> dict[str, Any]:
    stages = [
        {
            "stage": node.name,
            "kind": node.kind,
            "key": node.key,
            "status": "cached" if node.name in result.cached else "done",
            "path": str(result.artifacts[node.name].path),
        }
        for node in graph.nodes
        if node.name in result.artifacts
    ]
    return {"format_version": 1, "run_id": result.run_id, "seconds": result.seconds, "stages": stages}


def _tasks(ledger: Ledger, name: str, run_id: str, stage: str) -> list[dict[str, Any]]:
    picks: dict[str, list[dict[str, Any]]] = {}
    for one in ledger.read(PickRecord, run_id=run_id, stage=stage):
        values = {key: value for key, value in asdict(one).items() if key not in ("run_id", "stage", "task_id")}
        picks.setdefault(one.task_id, []).append(values)
    rows = ledger.rows("from v_tasks where run_id = ? and stage = ? order by task_id", [run_id, stage])
    return [
        {column: row[column] for column in COLUMNS} | {"stage": name, "picks": picks.get(row["task_id"], [])}
        for row in rows
    ]


def _reports(result: RunResult, graph: RunGraph) -> dict[str, Any]:
    return {
        node.name: result.artifacts[node.name].read_json("report.json")
        for node in graph.nodes
        if node.kind in REPORTED and node.name in result.artifacts
    }
