"""Comparison of results: scores of runs, or of the nodes of a sweep, with differing fields and costs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gridloom.compiler.fingerprint import by_content, is_data, parameters
from gridloom.compiler.graph import RunGraph, StageNode, section_name
from gridloom.errors import GridloomError
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.planning.graph_sources import run_graph
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.names import find_run
from gridloom.stores.workspace import Workspace
from gridloom.wording import listed

CASES = {f"pass{k}": "num_tasks" for k in (1, 2, 5, 10, 100, 1000)} | {
    "exact": "num_puzzles",
    "halting_accuracy": "num_puzzles",
    "accuracy_sequence": "num_sequences",
}
"""Metrics that are shares of independent cases, with the metric that counts the cases; these get an interval."""
SCORES = ("report", "evaluation")
"""Artifact types that hold scores."""
NO_METRICS = frozenset(
    {
        "peak_memory_bytes",
        "stage_memory_bytes",
        "steps_per_s",
        "puzzles_per_s",
        "sequences_per_s",
        "seconds",
        "act_steps_computed",
        *CASES.values(),
    }
)


@dataclass(frozen=True, slots=True)
class Metric:
    """Metric of a result; `low` and `high` are its 95% Wilson interval if it is a share of counted cases."""

    value: float
    low: float | None = None
    high: float | None = None
    num_cases: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Score or other report of a run."""

    run_id: str
    stage: str
    kind: str
    status: str
    """Status: done, failed, blocked, interrupted, running, or 'not reached'."""
    key: str
    differs: dict[str, Any]
    """Spec fields, by path, whose values differ among the compared results."""
    metrics: dict[str, Metric]
    parameters: int | None
    """Trained parameters of the checkpoint, or of all checkpoints of an ensemble."""
    flops: int | None
    """Estimated operations of the stage and of all its inputs, recursively."""
    seconds: float | None
    """Measured time of the stage and of all its inputs, recursively, in any run."""
    attempts: int | None = None
    llm_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class StageRun:
    """Executed stage that published the artifact of a key, from the ledger."""

    run_id: str
    stage: str
    seconds: float | None
    notes: dict[str, Any]


def compare_runs(run_ids: Sequence[str], workspace: Workspace) -> tuple[Result, ...]:
    """Return the results of the runs, in the order given; in a run, in the order of its graph.

    Raises:
        GridloomError: an unknown run, one that recorded no graph, or runs without any score to compare.
    """
    ledger = Ledger(workspace)
    graphs = {run_id: run_graph(find_run(run_id, ledger), workspace) for run_id in dict.fromkeys(run_ids)}
    rows = [(run_id, node) for run_id, graph in graphs.items() for node in graph.nodes if node.produces in SCORES]
    _refuse_without_scores(graphs, rows)
    keys = sorted({node.key for graph in graphs.values() for node in graph.nodes})
    made = stage_runs(ledger, keys, ArtifactStore(workspace))
    recorded = ledger.rows("select run_id, stage, status from stages where run_id in (select unnest(?))", [[*graphs]])
    statuses = {(str(row["run_id"]), str(row["stage"])): str(row["status"]) for row in recorded}
    nodes = {run_id: {node.name: node for node in graph.nodes} for run_id, graph in graphs.items()}
    behind = {run_id: nodes_behind(graph) for run_id, graph in graphs.items()}
    closures = [[nodes[run_id][name] for name in behind[run_id][node.name]] for run_id, node in rows]
    fields = [_fields(closure) for closure in closures]
    varying = _varying(fields)
    losses, costs = _losses(ledger), _solve_costs(ledger)
    found = []
    for (run_id, node), closure, written in zip(rows, closures, fields, strict=True):
        own = made.get(node.key)
        status = statuses.get((run_id, node.name), "not reached")
        trained = _used_checkpoints(closure)
        metrics = _metrics(own.notes) if own else {}
        at = made.get(trained[0].key) if len(trained) == 1 else None
        if own and at and (at.run_id, at.stage) in losses:
            metrics["loss"] = Metric(losses[at.run_id, at.stage])
        solve = next((made.get(one.key) for one in closure if one.produces == "attempts"), None)
        attempts, tokens = costs.get((solve.run_id, solve.stage), (None, None)) if solve else (None, None)
        found.append(
            Result(
                run_id,
                node.name,
                node.kind,
                "done" if own and status in ("done", "cached") else status,
                node.key,
                {path: written.get(path) for path in varying},
                metrics,
                sum(one.cost.parameters for one in trained if one.cost) or None,
                _flops(closure, made),
                _seconds([made.get(one.key) for one in closure]) if own else None,
                attempts,
                tokens,
            )
        )
    if not any(result.metrics for result in found):
        states = ", ".join(f"{result.stage} {result.status}" for result in found[:6])
        raise GridloomError(
            f"{' and '.join(graphs)} {'has' if len(graphs) == 1 else 'have'} no scores yet: {states}",
            "run the spec again: it goes on where it stopped",
        )
    return tuple(found)


def _refuse_without_scores(graphs: dict[str, RunGraph], rows: list[tuple[str, StageNode]]) -> None:
    for run_id, graph in graphs.items():
        if not any(run_id == row[0] for row in rows):
            stages = listed([node.name for node in graph.nodes if not is_data(node)], 6)
            raise GridloomError(
                f"run {run_id} has no stage that scores anything (its stages: {stages})",
                "add a score or evaluate stage, or look at its metrics: "
                f"gridloom sql \"from v_metrics_latest where run_id like '%{run_id}'\"",
            )


def stage_runs(ledger: Ledger, keys: Sequence[str], store: ArtifactStore) -> dict[str, StageRun]:
    """Return the executed stage of each key, the newest of several."""
    made_as = {key: store.made_as(key) for key in keys}
    rows = ledger.rows(
        "select s.key, run_id, stage, t.seconds, s.notes from stages s join v_stage_times t using (run_id, stage) "
        "where s.status = 'done' and s.key in (select unnest(?)) order by s.ended_at",
        [sorted({*keys, *made_as.values()})],
    )
    found = {
        str(row["key"]): StageRun(row["run_id"], row["stage"], row["seconds"], json.loads(row["notes"] or "{}"))
        for row in rows
    }
    return {key: one for key in keys if (one := found.get(key) or found.get(made_as[key])) is not None}


def _losses(ledger: Ledger) -> dict[tuple[str, str], float]:
    rows = ledger.rows("select run_id, stage, value from v_metrics_latest where name = 'loss'")
    return {(row["run_id"], row["stage"]): row["value"] for row in rows}


def _solve_costs(ledger: Ledger) -> dict[tuple[str, str], tuple[int, int]]:
    rows = ledger.rows("select run_id, stage, attempts, llm_tokens from v_leaderboard")
    return {(row["run_id"], row["stage"]): (row["attempts"], row["llm_tokens"]) for row in rows}


def _metrics(notes: dict[str, Any]) -> dict[str, Metric]:
    found = {}
    # shares of cases first: the manifest, from which notes are recorded, keeps no order
    for name, value in sorted(notes.items(), key=lambda note: (note[0] not in CASES, note[0])):
        if name in NO_METRICS or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        cases = notes.get(CASES.get(name, ""))
        low, high = wilson(value, int(cases)) if cases else (None, None)
        found[name] = Metric(float(value), low, high, int(cases) if cases else None)
    return found


def _seconds(made: Sequence[StageRun | None]) -> float | None:
    times = [one.seconds for one in made if one is not None and one.seconds is not None]
    return sum(times) if len(times) == len(made) else None


def _flops(nodes: Sequence[StageNode], made: dict[str, StageRun]) -> int | None:
    """Return the estimated operations of nodes; of an executed training, only of the steps it executed."""
    if not any(node.cost for node in nodes):
        return None
    total = 0
    for node in nodes:
        if node.cost is None:
            continue
        steps = node.cost.num_steps
        if node.produces == "checkpoint" and (own := made.get(node.key)):
            steps = own.notes.get("steps", steps)  # a budget may have ended the training before its last step
        total += steps * sum(node.cost.flops.values()) + sum(node.cost.flops_once.values())
    return total


def _used_checkpoints(closure: Sequence[StageNode]) -> list[StageNode]:
    """Return the checkpoints that a stage other than a training reads: one, or the members of an ensemble."""
    used = {target for node in closure if node.produces != "checkpoint" for target in node.inputs.values()}
    return [node for node in closure if node.produces == "checkpoint" and node.name in used]


def nodes_behind(graph: RunGraph) -> dict[str, tuple[str, ...]]:
    """Return each node's ancestors and the node itself, in the graph's order."""
    behind: dict[str, set[str]] = {}
    for node in graph.nodes:
        behind[node.name] = {node.name}.union(*(behind[target] for target in node.inputs.values()))
    order = {node.name: i for i, node in enumerate(graph.nodes)}
    return {name: tuple(sorted(names, key=order.__getitem__)) for name, names in behind.items()}


def _fields(closure: Sequence[StageNode]) -> dict[str, Any]:
    """Return by path every spec field that a result depends on; stage names have no sweep numbers."""
    found: dict[str, Any] = {}
    for node in closure:
        base = section_name(node.name.partition("@")[0])
        covered = {path for path, _ in _flat(parameters(node), "")}
        content = by_content(node)
        for path, value in _flat(node.spec, ""):
            top = path.partition(".")[0]
            if top in content or any(path == c or c.startswith(f"{path}.") for c in covered):
                found[f"{'data' if is_data(node) else 'stages'}.{base}.{path}"] = value
        for model, definition in node.models.items():
            found.update(_flat(definition, f"models.{model}"))
        if not is_data(node):
            found["seed" if node.spec.get("seed") is None else f"stages.{base}.seed"] = node.seed
    return found


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _varying(fields: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Return the paths whose values differ, in order of first occurrence."""
    paths = dict.fromkeys(path for one in fields for path in one)
    return tuple(path for path in paths if any(one.get(path) != fields[0].get(path) for one in fields[1:]))
