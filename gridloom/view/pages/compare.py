"""Two runs compared task by task: won, lost, both, neither, and whether the difference could be chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gridloom.errors import GridloomError
from gridloom.view.html import link
from gridloom.view.pages.tasks import solve_stages
from gridloom.view.reader import Session

PAIRS_A_PAGE = 60
OUTCOMES = {
    "lost": "x AND NOT y",
    "won": "y AND NOT x",
    "both": "x AND y",
    "neither": "NOT x AND NOT y",
}
"""Outcomes of a task in b against a, as SQL over x (solved in a) and y (solved in b)."""


@dataclass(frozen=True, slots=True)
class Side:
    """Solve stage of a run."""

    run: str
    stage: str


def compare_page(
    session: Session, a: str = "", b: str = "", outcome: str = "", after: str = "", a_stage: str = "", b_stage: str = ""
) -> dict[str, Any]:
    """Return the paired comparison of two runs over the tasks of both; without runs the latest two.

    A task counts as solved by the score where both runs are scored, else by the verifier's verdict.
    Raises GridloomError for an unknown run or outcome.
    """
    stages = solve_stages(session)
    if outcome and outcome not in OUTCOMES:
        raise GridloomError(f"no outcome '{outcome}'", f"one of {', '.join(OUTCOMES)}")
    first, second = _side(stages, a, a_stage, 1), _side(stages, b, b_stage, 0)
    values: dict[str, Any] = {"stages": stages, "a": first, "b": second, "outcome": outcome, "pairs": [], "more": None}
    if first is None or second is None:
        return values | {"counts": None}
    params = {"ra": first.run, "sa": first.stage, "rb": second.run, "sb": second.stage}
    paired = (
        "WITH paired AS (SELECT task_id, x.solved IS NOT NULL AND y.solved IS NOT NULL AS scored, "
        "coalesce(if(scored, x.solved, x.accepted), false) AS x, "
        "coalesce(if(scored, y.solved, y.accepted), false) AS y, "
        "x.pass2 AS pass2_a, y.pass2 AS pass2_b, x.attempts AS attempts_a, y.attempts AS attempts_b, "
        "x.best_score AS score_a, y.best_score AS score_b, x.best_attempt_id AS best_a, y.best_attempt_id AS best_b "
        "FROM v_tasks x JOIN v_tasks y USING (task_id) "
        "WHERE x.run_id = $ra AND x.stage = $sa AND y.run_id = $rb AND y.stage = $sb) "
    )
    counted = ", ".join(f"count(*) FILTER ({condition}) AS {name}" for name, condition in OUTCOMES.items())
    counts = session.rows(
        f"{paired} SELECT count(*) AS tasks, count(*) FILTER (scored) AS scored, {counted}, "
        "avg(pass2_a) AS pass2_a, avg(pass2_b) AS pass2_b FROM paired",
        params,
    )[0]
    rows = session.rows(
        f"{paired}, page AS (SELECT * FROM paired WHERE ({OUTCOMES.get(outcome, 'true')}) AND task_id > $after "
        "ORDER BY task_id LIMIT $most) SELECT page.*, r.tests[1] AS test, "
        "(SELECT grid FROM picks p WHERE p.run_id = $ra AND p.stage = $sa AND p.task_id = page.task_id "
        "AND p.test_index = 0 AND p.rank = 0) AS pick_a, "
        "(SELECT grid FROM picks p WHERE p.run_id = $rb AND p.stage = $sb AND p.task_id = page.task_id "
        "AND p.test_index = 0 AND p.rank = 0) AS pick_b "
        "FROM page JOIN tasks r ON r.run_id = $ra AND r.stage = $sa AND r.task_id = page.task_id ORDER BY page.task_id",
        params | {"after": after, "most": PAIRS_A_PAGE + 1},
    )
    for row in rows:
        row["outcome"] = ("both" if row["y"] else "lost") if row["x"] else ("won" if row["y"] else "neither")
    page = rows[:PAIRS_A_PAGE]
    address = {"a": first.run, "b": second.run, "a_stage": first.stage, "b_stage": second.stage}
    return values | {
        "counts": counts,
        "p_value": sign_test(counts["won"], counts["lost"]),
        "pairs": page,
        "outcomes": {name: link("compare", **address, outcome=name) for name in OUTCOMES},
        "everything": link("compare", **address),
        "more": link("compare", **address, outcome=outcome, after=page[-1]["task_id"])
        if len(rows) > PAIRS_A_PAGE
        else None,
    }


def sign_test(won: int, lost: int) -> float | None:
    """Return the two-sided p-value of the exact sign test (McNemar's exact test); None without a differing task."""
    number, extreme = won + lost, min(won, lost)
    if number == 0:
        return None
    if number > 1000:  # normal approximation with continuity correction, exact to 3 digits at this size
        return math.erfc(max(0.0, abs(won - lost) - 1) / math.sqrt(2 * number))
    tail = sum(math.comb(number, k) for k in range(extreme + 1))
    return min(1.0, float(2 * tail / 2**number))


def _side(stages: list[dict[str, Any]], run: str, stage: str, default: int) -> Side | None:
    """Return the side of a run and stage; without a run that of the run at place `default`, latest first."""
    if not run:
        runs = list(dict.fromkeys(row["run_id"] for row in stages))
        if len(runs) <= default:
            return None
        run = runs[default]
    of_run = [row["stage"] for row in stages if row["run_id"] == run]
    if not of_run:
        raise GridloomError(f"run '{run}' has no solve stage with tasks", "choose another run")
    if stage and stage not in of_run:
        raise GridloomError(f"run '{run}' has no solve stage '{stage}'", f"it has {', '.join(of_run)}")
    return Side(run, stage or of_run[0])
