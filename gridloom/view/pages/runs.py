"""Runs: the list, and one run with its stages, reasons, curves, estimates and scores."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gridloom.errors import GridloomError
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.stores.workspace import Workspace
from gridloom.view.drawing.stage_graph import StageBox, stage_graph_svg
from gridloom.view.html import duration_text, link
from gridloom.view.pages.curves import curves
from gridloom.view.pages.evaluation_scores import evaluation_scores
from gridloom.view.pages.stage_progress import stage_progress
from gridloom.view.reader import Session, places

if TYPE_CHECKING:
    from gridloom.compiler.diff import StageChange
    from gridloom.compiler.graph import RunGraph

RUNS_A_PAGE = 50


def runs_page(session: Session, before: str = "") -> dict[str, Any]:
    """Return the runs, latest first, RUNS_A_PAGE from the one after `before`, and the scores of their solve stages."""
    return session.once(("runs", before), lambda: _runs(session, before))


def _runs(session: Session, before: str) -> dict[str, Any]:
    rows = session.rows(
        "FROM v_runs WHERE $before = '' OR (coalesce(started_at, TIMESTAMP '1970-01-01'), run_id) < "
        "(SELECT (coalesce(started_at, TIMESTAMP '1970-01-01'), run_id) FROM runs WHERE run_id = $before) "
        "ORDER BY coalesce(started_at, TIMESTAMP '1970-01-01') DESC, run_id DESC LIMIT $most",
        {"before": before, "most": RUNS_A_PAGE + 1},
    )
    page = rows[:RUNS_A_PAGE]
    scores: dict[str, list[dict[str, Any]]] = {}
    for row in session.rows(
        "SELECT run_id, stage, pass1, pass2, scored_tasks, accepted_tasks, tasks FROM v_leaderboard "
        f"WHERE run_id IN ({places(page)})",
        [row["run_id"] for row in page],
    ):
        scores.setdefault(row["run_id"], []).append(row)
    more = link("runs", before=page[-1]["run_id"]) if len(rows) > RUNS_A_PAGE else None
    return {"runs": page, "scores": scores, "more": more}


def run_page(session: Session, run_id: str, metrics: str = "", charts: bool = True) -> dict[str, Any]:
    """Return one run. Raises GridloomError for an unknown one.

    Args:
        metrics: `all` to draw every curve.
        charts: whether curves are drawn at all.
    """
    return {**session.once(("run", run_id, metrics, charts), lambda: _run(session, run_id, metrics, charts))}


def _run(session: Session, run_id: str, metrics: str, charts: bool) -> dict[str, Any]:
    run = session.one("SELECT v.*, r.graph FROM v_runs v JOIN runs r USING (run_id) WHERE v.run_id = ?", [run_id])
    if run is None:
        raise GridloomError(f"no run '{run_id}' in this ledger", "the page Runs lists all")
    stages = session.rows(
        "SELECT t.*, s.notes, s.error FROM v_stage_times t JOIN stages s USING (run_id, stage) "
        "WHERE run_id = ? ORDER BY t.started_at NULLS LAST, stage",
        [run_id],
    )
    graph, problem = read_graph(run["graph"])
    why = reasons(session, run, graph)
    return {
        "run": run,
        "stages": _in_order(stages, graph),
        "why": why,
        "graph": _drawn(run, graph, stages, why),
        "graph_problem": problem,
        "costs": session.rows("FROM v_costs WHERE run_id = ? ORDER BY stage", [run_id]),
        "processes": _processes(session, run_id),
        "scores": scores(session, run_id),
        "evaluation_scores": evaluation_scores(session, run_id),
        "curves": curves(session, run_id, every=metrics == "all") if charts else [],
        "every_curve": metrics == "all",
        "progress": stage_progress(session, run_id, stages, graph) if run["status"] == "started" else {},
        "tracked": tracked(session.workspace, stages),
        "studies": session.rows("SELECT DISTINCT stage FROM halting_study WHERE run_id = ? ORDER BY stage", [run_id]),
    }


def tracked(workspace: Workspace, stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the runs at Weights & Biases of stages: stage, project, and url or the command that sends the folder."""
    found = []
    for row in stages:
        place = notes_of(row).get("wandb")
        if not isinstance(place, Mapping):
            continue
        url, folder = (str(place.get(name) or "") for name in ("url", "folder"))
        found.append(
            {
                "stage": row["stage"],
                "project": str(place.get("project") or ""),
                # the ledger is not trusted: another scheme than https is shown as text
                "url": url if url.startswith("https://") else "",
                "text": url,
                "command": f"wandb sync {shlex.quote(str(workspace.root / folder))}" if folder else "",
            }
        )
    return found


@functools.lru_cache(maxsize=16)
def read_graph(text: str | None) -> tuple[RunGraph | None, str]:
    """Return the recorded graph of a run, or None and the reason."""
    from pydantic import ValidationError

    from gridloom.compiler.graph import RunGraph  # pydantic and every kind of stage: the list of runs needs none

    if text is None:
        return None, "this run recorded no graph"
    try:
        return RunGraph.model_validate_json(text), ""
    except ValidationError as error:
        return None, f"the recorded graph cannot be read: {error.error_count()} problems"


def recorded_graph(session: Session, run_id: str) -> tuple[RunGraph | None, str]:
    """Return the recorded graph of a run by its id, or None and the reason."""

    def read() -> tuple[RunGraph | None, str]:
        found = session.one("SELECT graph FROM runs WHERE run_id = ?", [run_id])
        return read_graph(found["graph"] if found else None)

    return session.once(("graph", run_id), read)


def scores(session: Session, run_id: str) -> list[dict[str, Any]]:
    """Return the solve stages of a run with pass@k and 95% Wilson intervals over tasks."""
    return session.once(("scores", run_id), lambda: all_scores(session, run_id))


def _processes(session: Session, run_id: str) -> list[dict[str, Any]]:
    """Return the processes of a run that had several, none of any other."""
    number = session.one("SELECT count(*) AS number FROM run_processes WHERE run_id = ?", [run_id])
    if number is None or number["number"] < 2:
        return []
    return session.rows("FROM v_processes WHERE run_id = ? ORDER BY process", [run_id])


def all_scores(session: Session, run_id: str | None) -> list[dict[str, Any]]:
    """Return `scores` of one run, or of all, latest first."""
    found = session.rows(
        f"FROM v_leaderboard {'' if run_id is None else 'WHERE run_id = ?'} "
        "ORDER BY started_at DESC NULLS LAST, run_id DESC, stage",
        [] if run_id is None else [run_id],
    )
    for row in found:
        for k in ("pass1", "pass2"):
            row[f"{k}_interval"] = None if row[k] is None else wilson(row[k], row["scored_tasks"])
    return found


def reasons(session: Session, run: Mapping[str, Any], graph: RunGraph | None) -> dict[str, str]:
    """Return, by stage, why it ran: what differs from the run of the same name before, as its recorded graphs say."""
    from gridloom.compiler.diff import diff_graphs

    if graph is None:
        return {}
    earlier = session.one(
        "SELECT run_id, graph FROM runs WHERE name = $name AND run_id <> $run AND graph IS NOT NULL "
        "AND (started_at, run_id) < (SELECT (started_at, run_id) FROM runs WHERE run_id = $run) "
        "ORDER BY started_at DESC, run_id DESC LIMIT 1",
        {"name": run["name"], "run": run["run_id"]},
    )
    before = read_graph(earlier["graph"])[0] if earlier else None
    if before is None or earlier is None:
        return {node.name: "first run of this name" for node in graph.nodes}
    found = {node.name: f"same key as in run {earlier['run_id']}" for node in graph.nodes}
    return found | {change.stage: _reason(change) for change in diff_graphs(before, graph)}


def _reason(change: StageChange) -> str:
    if change.change in ("added", "renamed", "removed"):
        return {"added": "new stage", "renamed": f"was {', '.join(change.because)}"}.get(change.change, change.change)
    fields = [str(field) for field in change.fields[:4]] + (["..."] if len(change.fields) > 4 else [])
    inputs = [f"{name} changed" for name in dict.fromkeys(change.because)]
    return ", ".join([*fields, *inputs]) or change.change


def _in_order(stages: list[dict[str, Any]], graph: RunGraph | None) -> list[dict[str, Any]]:
    if graph is None:
        return stages
    place = {node.name: number for number, node in enumerate(graph.nodes)}
    return sorted(stages, key=lambda row: place.get(row["stage"], len(place)))


def _drawn(run: Mapping[str, Any], graph: RunGraph | None, stages: list[dict[str, Any]], why: Mapping[str, str]) -> Any:
    if graph is None or not graph.nodes:
        return None
    made = {row["stage"]: row for row in stages}
    boxes = []
    for node in graph.nodes:
        row = made.get(node.name, {})
        state = str(row.get("status") or "not reached")
        if state == "running" and run["status"] in ("crashed", "failed", "interrupted"):
            state = str(run["status"])
        note = duration_text(row.get("seconds")) if state == "done" else ""
        if state in ("running", "failed", "interrupted", "crashed"):
            note = why.get(node.name, "")
        boxes.append(StageBox(node.name, node.kind, state, tuple(node.inputs.values()), note))
    return stage_graph_svg(str(run["name"] or run["run_id"]), boxes)


def notes_of(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notes of a stage as data."""
    notes = stage.get("notes")
    try:
        parsed = json.loads(notes) if isinstance(notes, str) else notes
    except ValueError:
        parsed = None  # a record of another program
    return dict(parsed) if isinstance(parsed, Mapping) else {}
