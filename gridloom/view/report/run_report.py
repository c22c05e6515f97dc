"""Report of a run as one file: summary, score, gallery, reasons of rejections, curves, provenance."""

from __future__ import annotations

from typing import Any

from gridloom.stores.runs.names import find_run
from gridloom.stores.workspace import Workspace
from gridloom.view.pages.runs import notes_of, read_graph, run_page
from gridloom.view.reader import Reader, Session, latest_run
from gridloom.view.report.alone import alone

TASKS = 2000
"""Tasks of a solve stage that are drawn; the summary counts all."""
REASONS = 25
"""Reasons of rejections that are listed, most frequent first."""


def run_report(workspace: Workspace, run_id: str | None = None) -> str:
    """Return the report of a run, by default of the one that began last, as HTML.

    Raises GridloomError for an unknown run, StoreError as the ledger.
    """
    reader = Reader(workspace)
    try:
        with reader.session() as session:
            run_id = latest_run(session) if run_id is None else find_run(run_id, session)
            return alone("report.html", **report_values(session, run_id))
    finally:
        reader.close()


def report_values(session: Session, run_id: str) -> dict[str, Any]:
    """Return what the report shows."""
    values = run_page(session, run_id)
    graph, _ = read_graph(values["run"]["graph"])
    solves = [_solve(session, run_id, score) for score in values["scores"]]
    notes = {row["stage"]: notes for row in values["stages"] if (notes := notes_of(row))}
    spec = None if graph is None else {node.name: node.spec for node in graph.nodes}
    return values | {"solves": solves, "notes": notes, "spec": spec, "evaluations": _evaluations(values["stages"])}


def _solve(session: Session, run_id: str, score: dict[str, Any]) -> dict[str, Any]:
    where = {"run": run_id, "stage": score["stage"]}
    tasks = session.rows(
        "SELECT t.*, r.tests[1] AS test, p.grid AS pick, a.grids[1] AS proposed, "
        "a.attempt_id || '@' || a.v_place AS best_name FROM v_tasks t JOIN tasks r USING (run_id, stage, task_id) "
        "LEFT JOIN picks p ON p.run_id = $run AND p.stage = $stage AND p.task_id = t.task_id AND p.test_index = 0 "
        "AND p.rank = 0 LEFT JOIN attempts a ON a.run_id = $run AND a.stage = $stage AND a.task_id = t.task_id "
        "AND a.attempt_id = t.best_attempt_id "
        "WHERE t.run_id = $run AND t.stage = $stage ORDER BY t.solved DESC NULLS LAST, t.accepted DESC, t.task_id "
        "LIMIT $most",
        where | {"most": TASKS},
    )
    # numbers differ from attempt to attempt where the reason is the same
    rejected = session.rows(
        "SELECT regexp_replace(split_part(feedback, chr(10), 1), '[0-9]+', 'N', 'g') AS reason, count(*) AS attempts, "
        "count(DISTINCT task_id) AS tasks, any_value(attempt_id || '@' || v_place) AS example FROM attempts "
        "WHERE run_id = $run AND stage = $stage AND verdict = 'rejected' GROUP BY reason "
        "ORDER BY attempts DESC, reason LIMIT $most",
        where | {"most": REASONS},
    )
    verifiers = session.rows(
        "SELECT verifier, count(*) AS attempts, avg(v.score) AS mean, "
        "avg(v.score) FILTER (a.v_solved) AS mean_right, avg(v.score) FILTER (NOT a.v_solved) AS mean_wrong "
        "FROM verdicts v JOIN attempts a USING (run_id, stage, task_id, attempt, fork) "
        "WHERE run_id = $run AND stage = $stage GROUP BY verifier ORDER BY verifier",
        where,
    )
    return {"score": score, "tasks": tasks, "rejected": rejected, "verifiers": verifiers}


def _evaluations(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluation stages with the figures of their notes."""
    kinds = ("evaluate", "count_votes", "halting_study")
    return [{"stage": row["stage"], "figures": notes_of(row)} for row in stages if row["kind"] in kinds]
