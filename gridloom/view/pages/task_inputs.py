"""Test inputs of ARC tasks as a stage read them: an id may be of unlike tasks, of several data."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.view.pages.runs import read_graph
from gridloom.view.reader import Session

Grids = list[list[list[int]]]
MOST_RUNS = 20
"""Latest runs with solve stages on the same data in whose records the inputs are looked for."""


def data_key(session: Session, run: str, stage: str) -> str | None:
    """Return the key of the data that a stage of a run read, as its recorded graph says; None where it says none."""
    found = session.one("SELECT graph FROM runs WHERE run_id = ?", [run])
    return _data_keys(found["graph"] if found else None).get(stage)


def inputs_of(session: Session, run: str, stage: str, tasks: Sequence[str]) -> dict[str, Grids]:
    """Return the test inputs of tasks by id, of the data that a stage read.

    They are read from the data itself or, where that is not in the workspace, from the records of solve stages on data
    of the same key. Tasks that neither holds are left out, and all of them where the recorded graph names no data.
    """
    key = data_key(session, run, stage)
    if key is None:
        return {}
    found = _of_artifact(session, key)
    if found is None:
        found = _recorded(session, key, tasks)
    return {task: found[task] for task in tasks if task in found}


def _data_keys(graph_text: str | None) -> dict[str, str]:
    """Return the key of the data of each stage of a recorded graph that reads some."""
    graph, _ = read_graph(graph_text)
    nodes = {node.name: node for node in graph.nodes} if graph else {}
    sources = {name: node.inputs.get("data", "") for name, node in nodes.items()}
    return {name: nodes[source].key for name, source in sources.items() if source in nodes}


def _of_artifact(session: Session, key: str) -> Mapping[str, Grids] | None:
    """Return the inputs of every task of a published data set; None where it is missing or damaged."""
    try:
        artifact = session.artifact(key)
        if artifact is None or artifact.type != "dataset":
            return None
        return _read(artifact.path, artifact.path.stat().st_mtime_ns)
    except (GridloomError, OSError):
        return None  # the page Checkpoint names what is wrong with it


@functools.lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> dict[str, Grids]:
    from gridloom.runtime.data.arc.dataset import load_dataset

    return {task.task_id: [grid.tolist() for grid in task.tests] for task in load_dataset(path).tasks}


def _recorded(session: Session, key: str, tasks: Sequence[str]) -> dict[str, Grids]:
    runs = session.rows(
        "SELECT run_id, graph FROM runs WHERE contains(graph, $key) AND run_id IN (SELECT run_id FROM places) "
        "ORDER BY started_at DESC NULLS LAST LIMIT $most",
        {"key": key, "most": MOST_RUNS},
    )
    found: dict[str, Grids] = {}
    for row in runs:
        stages = [stage for stage, data in _data_keys(row["graph"]).items() if data == key]
        missing = [task for task in tasks if task not in found]
        if not stages or not missing:
            continue
        for one in session.rows(
            "SELECT task_id, tests FROM tasks WHERE run_id = $run AND stage IN (SELECT unnest($stages)) "
            "AND task_id IN (SELECT unnest($tasks))",
            {"run": row["run_id"], "stages": stages, "tasks": missing},
        ):
            found[one["task_id"]] = one["tests"]
    return found
