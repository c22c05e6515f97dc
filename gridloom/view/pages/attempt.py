"""One attempt: its task, prompt, text, candidates, difference to another attempt or the answer, signals, replay."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridloom.errors import GridloomError
from gridloom.runtime.data.arc.answers import load_answers
from gridloom.stores.attempt import column_names
from gridloom.stores.records import AttemptRecord
from gridloom.stores.runs.names import attempt_name
from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.drawing.grids import difference
from gridloom.view.html import link
from gridloom.view.pages.runs import recorded_graph
from gridloom.view.reader import Session

LAID_OUT = frozenset(
    {
        *("run_id", "stage", "task_id", "attempt", "fork", "attempt_id", "parent", "plan", "prompt", "text", "grids"),
        *("verdict", "score", "feedback", "timings", "reading", "confirmation", "latent", "prefix", "stage_key"),
        *("checkpoint_key", "geometry", "started_at", "ended_at"),
    }
)
"""Columns that the page lays out in a way of its own or leaves out; others are listed by name."""

SIBLINGS = 200
"""Attempts at the same task that can be chosen for a comparison."""


def attempt_page(session: Session, name: str, against: str = "") -> dict[str, Any]:
    """Return everything about an attempt, and its difference to another one or, where scored, to the answer.

    Args:
        against: name of another attempt; `answer` for the answer; empty for the answer where it is shown.

    Raises:
        ReplayError: no such attempt.
    """
    row = session.attempt(name)
    answers, why_not = answer_grids(session, row)
    around = siblings(session, row)
    other = session.attempt(against) if against and against != "answer" else None
    compared = None if other is None else other["grids"]
    if other is None and answers is not None:
        compared = answers
    return {
        **attempt_values(row),
        "answers": answers,
        "no_answers": why_not,
        "other": other,
        "other_name": None if other is None else attempt_name(other),
        "compared": compared,
        "differences": None if compared is None else differences(row["grids"], compared),
        "changes": [] if other is None else changes(row, other),
        **neighbours(session, row, around),
        "siblings": around[:SIBLINGS],
    }


def attempt_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pages, reports and single files show of an attempt's records, without reading anything else."""
    steps = row["trm_steps"]
    charts = []
    if steps:
        points = [(float(step["act_step"]), step["q_halt"]) for step in steps if step["q_halt"] is not None]
        changed = [(float(step["act_step"]), float(step["changed_cells"])) for step in steps]
        charts = [
            line_chart("halting logit", [Series("q_halt", points, dots=True)], x_label="ACT step"),
            line_chart("changed positions", [Series("changed", changed, dots=True)], x_label="ACT step"),
        ]
    return {
        "a": row,
        "name": attempt_name(row),
        "seconds": float(sum(row["timings"].values())),
        "charts": charts,
        "extra": {n: row[n] for n in column_names(AttemptRecord, LAID_OUT) if row.get(n) is not None},
        "replay": f"gridloom replay {shlex.quote(attempt_name(row))}",
    }


def differences(grids: list[Any], others: list[Any]) -> list[str]:
    """Return in words how each proposed grid differs from the grid of the same test input."""
    padded = list(others) + [[]] * len(grids)
    return [difference(grid, padded[number]) for number, grid in enumerate(grids)]


def changes(row: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (what, here, there) of plan, text, verdict and verifiers where two attempts differ."""
    found = []
    for key in sorted(row["plan"].keys() | other["plan"].keys()):
        here, there = row["plan"].get(key), other["plan"].get(key)
        if here != there:
            found.append((f"plan.{key}", _short(here), _short(there)))
    for what in ("prompt", "text"):
        here, there = row[what] or "", other[what] or ""
        if here != there:
            at = next((i for i, pair in enumerate(zip(here, there, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(here), len(there)) if at is None else at
            found.append((f"{what} from character {at + 1}", _short(here[at : at + 80]), _short(there[at : at + 80])))
    for what in ("verdict", "score", "feedback"):
        if row[what] != other[what]:
            found.append((what, _short(row[what]), _short(other[what])))
    scores, others = ({one["verifier"]: one["score"] for one in part["verdicts"]} for part in (row, other))
    for verifier in dict.fromkeys([*scores, *others]):
        if scores.get(verifier) != others.get(verifier):
            found.append((f"verifier {verifier}", _short(scores.get(verifier)), _short(others.get(verifier))))
    return found


def _short(value: Any) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if len(text) <= 200 else text[:200] + "..."


def answer_grids(session: Session, row: Mapping[str, Any]) -> tuple[list[Any] | None, str]:
    """Return the held-out answers of a scored attempt's task, or None and the reason.

    They are read only where a score stage has compared this task's picks with them, so that the page of a task that
    is still being solved shows nothing that could be copied into a prompt.
    """
    task = (row["run_id"], row["stage"], row["task_id"])
    scored = session.once(
        ("scored", *task),
        lambda: session.one(
            "SELECT run_id, stage FROM scores WHERE coalesce(solve_run_id, run_id) = ? AND solve_stage = ? "
            "AND task_id = ? LIMIT 1",
            [*task],
        ),
    )
    if scored is None:
        return None, "not scored"
    graph, problem = recorded_graph(session, scored["run_id"])
    if graph is None:
        return None, problem
    nodes = {node.name: node for node in graph.nodes}
    source = nodes[scored["stage"]].inputs.get("answers") if scored["stage"] in nodes else None
    if source is None or source not in nodes:
        return None, "the recorded graph names no answers"
    try:
        artifact = session.artifact(nodes[source].key)
        if artifact is None:
            return None, f"the answers {nodes[source].key} are not in this workspace"
        answers = _answers(artifact.path, artifact.path.stat().st_mtime_ns).get(row["task_id"])
    except GridloomError as error:
        return None, error.message
    return (None, "no answer for this task") if answers is None else ([grid.tolist() for grid in answers], "")


@functools.lru_cache(maxsize=4)
def _answers(path: Path, _changed: int) -> dict[str, Any]:
    """Return the answers of an artifact, which are read once."""
    return load_answers(path)


def siblings(session: Session, row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the attempts at the same task, by number and fork."""
    task = (row["run_id"], row["stage"], row["task_id"])
    return session.once(
        ("siblings", *task),
        lambda: session.rows(
            "SELECT attempt_id || '@' || v_place AS name, attempt, fork, verdict, score FROM attempts "
            "WHERE run_id = ? AND stage = ? AND task_id = ? ORDER BY attempt, fork",
            [*task],
        ),
    )


def neighbours(session: Session, row: Mapping[str, Any], around: list[dict[str, Any]]) -> dict[str, str | None]:
    """Return the addresses of the next and previous attempt of the stage, by task, number and fork.

    Args:
        around: attempts at the same task, as `siblings` returns them.
    """
    here = next(i for i, one in enumerate(around) if (one["attempt"], one["fork"]) == (row["attempt"], row["fork"]))
    following = around[here + 1]["name"] if here + 1 < len(around) else _of_task_beside(session, row, ">", "ASC")
    before = around[here - 1]["name"] if here else _of_task_beside(session, row, "<", "DESC")
    return {
        "next": link("attempt", name=following) if following else None,
        "prev": link("attempt", name=before) if before else None,
    }


def _of_task_beside(session: Session, row: Mapping[str, Any], sign: str, order: str) -> str | None:
    """Return the name of the first attempt at the next task, or of the last one at the task before."""
    found = session.connection.execute(
        "SELECT attempt_id || '@' || v_place FROM attempts WHERE run_id = $run AND stage = $stage AND task_id = ("
        f"SELECT task_id FROM task_figures WHERE run_id = $run AND stage = $stage AND task_id {sign} $task "
        f"AND all_attempts > 0 ORDER BY task_id {order} LIMIT 1) ORDER BY attempt {order}, fork {order} LIMIT 1",
        {"run": row["run_id"], "stage": row["stage"], "task": row["task_id"]},
    ).fetchall()
    return str(found[0][0]) if found else None
