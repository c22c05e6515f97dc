"""Tasks of a solve stage: a gallery with filters, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gridloom.errors import GridloomError
from gridloom.view.html import link
from gridloom.view.pages.evaluations import kinds_of_tasks
from gridloom.view.pages.runs import scores
from gridloom.view.reader import Session, places

TASKS_A_PAGE = 60
STATES = {
    "all": "true",
    "solved": "t.solved",
    "failed": "t.attempts > 0 AND NOT coalesce(t.solved, t.accepted)",
    "accepted": "t.accepted",
    "accepted wrong": "t.accepted AND t.solved = false",
    "rejected right": "NOT t.accepted AND t.solved",
    "open": "t.attempts = 0",
}
"""Filters by the outcome of a task, as SQL."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Tasks that are shown."""

    run: str
    stage: str
    state: str = "all"
    view: str = ""
    """Dihedral transformation, 0 to 7, that an attempt of the task used."""
    source: str = ""
    """Proposer of one of its candidates."""
    verdict: str = ""
    """Text of the best verdict."""
    text: str = ""
    """Part of the task id."""
    after: str = ""
    """Task id before the first one shown."""

    def address(self, **changed: str) -> str:
        """Return the address of this list with some values changed."""
        return link("tasks", **({name: getattr(self, name) for name in self.__slots__} | changed))


def tasks_page(session: Session, wanted: Filter) -> dict[str, Any]:
    """Return one page of tasks with their first grids. Raises GridloomError for an unknown run, stage or filter."""
    stages = session.once(("solve stages",), lambda: solve_stages(session))
    if not stages:
        kinds = kinds_of_tasks(session, "tasks")
        return {"stages": [], "filter": wanted, "kinds": kinds, "tasks": [], "score": None, "more": None, "total": 0}
    wanted = _resolved(wanted, stages)
    if wanted.state not in STATES:
        raise GridloomError(f"no state '{wanted.state}' of a task", f"one of {', '.join(STATES)}")
    if wanted.view and wanted.view not in "01234567":
        raise GridloomError(f"no dihedral transformation '{wanted.view}'", "a digit from 0 to 7")
    where = [f"t.run_id = $run AND t.stage = $stage AND ({STATES[wanted.state]})"]
    params: dict[str, Any] = {"run": wanted.run, "stage": wanted.stage}
    if wanted.text:
        where.append("contains(t.task_id, $text)")
        params["text"] = wanted.text
    if wanted.verdict:
        where.append("contains(t.best_verdict, $verdict)")
        params["verdict"] = wanted.verdict
    if wanted.view:
        where.append(
            "t.task_id IN (SELECT task_id FROM attempts WHERE run_id = $run AND stage = $stage "
            "AND contains(plan::VARCHAR, $view))"
        )
        params["view"] = f'"t{wanted.view}|||'
    if wanted.source:
        where.append(
            "t.task_id IN (SELECT task_id FROM candidates WHERE run_id = $run AND stage = $stage AND source = $source)"
        )
        params["source"] = wanted.source
    matching = " AND ".join(where)
    # once for the number and the page, since a filter by view or proposer reads every attempt
    found = session.once(
        ("tasks", matching, *params.values()),
        lambda: [
            row["task_id"] for row in session.rows(f"SELECT task_id FROM v_tasks t WHERE {matching} ORDER BY 1", params)
        ],
    )
    shown = [task_id for task_id in found if task_id > wanted.after][: TASKS_A_PAGE + 1]
    rows = session.rows(
        "SELECT r.run_id, r.stage, r.task_id, r.tests[1] AS test, coalesce(f.attempts, 0) AS attempts, "
        "coalesce(f.accepted, false) AS accepted, f.best_score, f.best_attempt_id, f.best_verdict, f.solved, "
        "p.grid AS pick FROM tasks r LEFT JOIN task_figures f USING (run_id, stage, task_id) "
        "LEFT JOIN picks p ON p.run_id = r.run_id AND p.stage = r.stage AND p.task_id = r.task_id "
        "AND p.test_index = 0 AND p.rank = 0 "
        f"WHERE r.run_id = ? AND r.stage = ? AND r.task_id IN ({places(shown)}) ORDER BY r.task_id",
        [wanted.run, wanted.stage, *shown],
    )
    place = next(row["place"] for row in stages if (row["run_id"], row["stage"]) == (wanted.run, wanted.stage))
    _add_best(session, wanted, rows, place)
    page = rows[:TASKS_A_PAGE]
    return {
        "stages": stages,
        "filter": wanted,
        "kinds": kinds_of_tasks(session, "tasks", wanted.run),
        "states": list(STATES),
        "sources": _sources(session, wanted),
        "tasks": page,
        "total": len(found),
        "score": next((row for row in scores(session, wanted.run) if row["stage"] == wanted.stage), None),
        "more": wanted.address(after=page[-1]["task_id"]) if len(rows) > TASKS_A_PAGE else None,
    }


def _add_best(session: Session, wanted: Filter, rows: list[dict[str, Any]], place: str) -> None:
    """Add the name of each task's best attempt, and its grid where the task has no pick yet."""
    without = [row["best_attempt_id"] for row in rows if row["pick"] is None and row["best_attempt_id"]]
    proposed: dict[str, Any] = {}
    if without:
        found = session.rows(
            "SELECT attempt_id, grids[1] AS grid FROM attempts WHERE run_id = ? AND stage = ? "
            f"AND attempt_id IN ({places(without)})",
            [wanted.run, wanted.stage, *without],
        )
        proposed = {row["attempt_id"]: row["grid"] for row in found}
    for row in rows:
        best = row["best_attempt_id"]
        row["best_name"] = f"{best}@{place}" if best else None
        row["proposed"] = proposed.get(best)


def task_page(session: Session, run: str, stage: str, task_id: str) -> dict[str, Any]:
    """Return one task with all its attempts in short. Raises GridloomError for an unknown one."""
    task = session.one(
        "SELECT r.run_id, r.stage, r.task_id, r.subset, r.demos AS demo_pairs, r.tests AS test_grids, f.solved, "
        "f.pass1, f.pass2, f.cell_accuracy FROM tasks r LEFT JOIN task_figures f USING (run_id, stage, task_id) "
        "WHERE r.run_id = ? AND r.stage = ? AND r.task_id = ?",
        [run, stage, task_id],
    )
    if task is None:
        raise GridloomError(f"no task '{task_id}' in stage '{stage}' of run '{run}'", "the page Tasks lists all")
    attempts = session.rows(
        "SELECT name, attempt, fork, verdict, score, solved, seconds, feedback, grids FROM v_attempts "
        "WHERE run_id = ? AND stage = ? AND task_id = ? ORDER BY attempt, fork LIMIT 200",
        [run, stage, task_id],
    )
    picks = session.rows(
        "SELECT p.test_index, p.rank, p.grid, p.weight, p.attempt, s.exact_match, s.cell_accuracy FROM picks p "
        "LEFT JOIN scores s ON coalesce(s.solve_run_id, s.run_id) = p.run_id AND s.solve_stage = p.stage "
        "AND s.task_id = p.task_id AND s.test_index = p.test_index AND s.rank = p.rank "
        "WHERE p.run_id = ? AND p.stage = ? AND p.task_id = ? ORDER BY p.test_index, p.rank",
        [run, stage, task_id],
    )
    around = _neighbours(session, run, stage, task_id)
    return {"task": task, "attempts": attempts, "picks": picks, **around}


def solve_stages(session: Session) -> list[dict[str, Any]]:
    """Return the solve stages that have tasks, of the latest runs first."""
    return session.rows(
        "SELECT p.run_id, p.stage, p.place, r.name FROM v_places p LEFT JOIN runs r USING (run_id) "
        "ORDER BY r.started_at DESC NULLS LAST, p.run_id DESC, p.stage LIMIT 200"
    )


def _resolved(wanted: Filter, stages: list[dict[str, Any]]) -> Filter:
    """Return the filter with the run and stage that are meant: the latest run, its first solve stage."""
    values = {name: getattr(wanted, name) for name in wanted.__slots__}
    values["run"] = wanted.run or stages[0]["run_id"]
    of_run = [row["stage"] for row in stages if row["run_id"] == values["run"]]
    if not of_run:
        raise GridloomError(f"run '{values['run']}' has no solve stage with tasks", "choose another run")
    values["stage"] = wanted.stage or of_run[0]
    if values["stage"] not in of_run:
        raise GridloomError(f"run '{values['run']}' has no solve stage '{wanted.stage}'", f"it has {', '.join(of_run)}")
    return Filter(**values)


def _sources(session: Session, wanted: Filter) -> list[str]:
    where = [wanted.run, wanted.stage]
    return session.once(
        ("sources", *where),
        lambda: [
            row["source"]
            for row in session.rows(
                "SELECT DISTINCT source FROM candidates WHERE run_id = ? AND stage = ? ORDER BY source LIMIT 20", where
            )
        ],
    )


def _neighbours(session: Session, run: str, stage: str, task_id: str) -> dict[str, str | None]:
    ids = session.once(
        ("task ids", run, stage),
        lambda: [
            row["task_id"]
            for row in session.rows(
                "SELECT task_id FROM tasks WHERE run_id = ? AND stage = ? ORDER BY task_id", [run, stage]
            )
        ],
    )
    here = ids.index(task_id)
    beside = {"next": ids[here + 1 : here + 2], "prev": ids[max(0, here - 1) : here]}
    return {name: link("task", run=run, stage=stage, id=one[0]) if one else None for name, one in beside.items()}
