"""Two runs compared: items that one solved and the other did not, with an exact test; trainings by their curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from gridloom.compiler.diff import diff_graphs
from gridloom.errors import GridloomError
from gridloom.view.drawing.puzzles import puzzle_look
from gridloom.view.html import link
from gridloom.view.pages.compare_curves import compared_curves, compared_difficulties, has_curves, trainings
from gridloom.view.pages.evaluation_scores import has_rows
from gridloom.view.pages.evaluations import add_votes, evaluation_stages
from gridloom.view.pages.runs import read_graph
from gridloom.view.pages.tasks import solve_stages
from gridloom.view.reader import Session, places
from gridloom.wording import counted

PAIRS_A_PAGE = 60
LETTERS = "abcdefgh"
"""Letters of the runs that are compared, as many as there can be."""
OUTCOMES = {
    "lost": "x AND NOT y",
    "won": "y AND NOT x",
    "both": "x AND y",
    "neither": "NOT x AND NOT y",
}
"""Outcomes of an item in b against a, as SQL over x (solved in a) and y (solved in b)."""

Stages = list[dict[str, Any]]
KINDS: dict[str, tuple[str, Callable[[Session], Stages]]] = {
    "tasks": ("Tasks", solve_stages),
    "puzzles": ("Puzzles", lambda session: evaluation_stages(session, "puzzles")),
    "votes": ("Votes", lambda session: evaluation_stages(session, "votes")),
    "sequences": ("Sequences", lambda session: evaluation_stages(session, "sequences")),
    "training": ("Trainings", trainings),
}
"""What can be compared: its label, and the function that returns its stages, of the latest runs first."""
PAIRED = {
    "tasks": (
        "SELECT task_id AS item, p.solved IS NOT NULL AND q.solved IS NOT NULL AS scored, "
        "coalesce(if(scored, p.solved, p.accepted), false) AS x, "
        "coalesce(if(scored, q.solved, q.accepted), false) AS y, "
        "p.pass2 AS share_a, q.pass2 AS share_b, p.attempts AS attempts_a, q.attempts AS attempts_b, "
        "p.best_score AS score_a, q.best_score AS score_b "
        "FROM v_tasks p JOIN v_tasks q USING (task_id)"
    ),
    "puzzles": (
        "SELECT lpad(p.puzzle::VARCHAR, 9, '0') AS item, p.exact IS NOT NULL AND q.exact IS NOT NULL AS scored, "
        "coalesce(if(scored, p.exact, p.valid), false) AS x, coalesce(if(scored, q.exact, q.valid), false) AS y, "
        "x::INTEGER AS share_a, y::INTEGER AS share_b, p.puzzle, p.kind, p.size, p.question, "
        "p.prediction AS prediction_a, q.prediction AS prediction_b, p.act_steps AS steps_a, q.act_steps AS steps_b "
        "FROM puzzle_predictions p JOIN puzzle_predictions q "
        "ON q.puzzle = p.puzzle AND q.kind = p.kind AND q.question = p.question"
    ),
    "votes": (
        "SELECT task_id || '/' || test_index AS item, true AS scored, coalesce(p.rank <= 1, false) AS x, "
        "coalesce(q.rank <= 1, false) AS y, x::INTEGER AS share_a, y::INTEGER AS share_b, task_id, test_index, "
        "p.rank AS rank_a, q.rank AS rank_b, coalesce(p.vote_run_id, p.run_id) AS votes_run_a, "
        "coalesce(q.vote_run_id, q.run_id) AS votes_run_b, p.vote_stage AS votes_a, q.vote_stage AS votes_b "
        "FROM evaluations p JOIN evaluations q USING (task_id, test_index)"
    ),
}
"""Pairs of items of two stages, as SQL: item, scored, x, y, the share that each is right, and what cards show."""
JUDGED = {
    "tasks": "task",
    "puzzles": "puzzle",
    "votes": "test input",
}
"""Name of an item."""


@dataclass(frozen=True, slots=True)
class Side:
    """Stage of a run."""

    run: str
    stage: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared. Empty values stand for the latest runs, their first stage, and the first kind that fits."""

    a: str = ""
    b: str = ""
    kind: str = ""
    outcome: str = ""
    after: str = ""
    a_stage: str = ""
    b_stage: str = ""
    more: tuple[str, ...] = ()
    """Further runs that are compared with a."""


def compare_page(session: Session, wanted: Comparison) -> dict[str, Any]:
    """Return the paired comparison of two runs over the items of both.

    An item counts as solved by its score where both runs are scored, else by the verifier's verdict or the rules.
    Raises GridloomError for an unknown run, kind or outcome.
    """
    if wanted.outcome and wanted.outcome not in OUTCOMES:
        raise GridloomError(f"no outcome '{wanted.outcome}'", f"one of {', '.join(OUTCOMES)}")
    kind = kind_of(session, wanted)
    stages = stages_of(session, kind)
    a, b = wanted.a, wanted.b
    if not a and not b:
        a, b = _latest_two(stages)
    elif not a or not b:
        a, b = _with_another(stages, a, b)
    first, second = side_of(stages, a, wanted.a_stage), side_of(stages, b, wanted.b_stage)
    if first is not None and first == second and not (wanted.a_stage and wanted.b_stage):
        first, second = _two_stages(stages, first, wanted)
    runs = {"a": first.run if first else wanted.a, "b": second.run if second else wanted.b}
    both = runs if all(runs.values()) else {}
    values: dict[str, Any] = {
        "kind": kind,
        "kinds": [
            (label, link("compare", kind=name, **(both if has_all(session, name, both) else {})), name == kind)
            for name, (label, _) in KINDS.items()
            if name == kind or has_all(session, name, {"any": None})
        ],
        "stages": stages,
        "a": first,
        "b": second,
        "outcome": wanted.outcome,
        "counts": None,
        "differs": [],
    }
    if first is None or second is None:
        return values
    values["differs"] = settings_that_differ(session, first.run, second.run)
    if kind == "training":
        return values | compared_curves(session, by_letter([first, second]))
    if kind == "sequences":
        return values | compared_difficulties(session, by_letter([first, second]))
    return values | _pairs(session, kind, first, second, wanted)


def by_letter(sides: list[Side]) -> dict[str, tuple[str, str]]:
    """Return (run, stage) of each side by its letter."""
    return {letter: (side.run, side.stage) for letter, side in zip(LETTERS, sides, strict=False)}


def paired_items(kind: str, first: Side, second: Side) -> tuple[str, dict[str, Any]]:
    """Return the beginning of a statement over `paired`, and its parameters."""
    paired = (
        f"WITH paired AS ({PAIRED[kind]} WHERE p.run_id = $ra AND p.stage = $sa AND q.run_id = $rb AND q.stage = $sb) "
    )
    return paired, {"ra": first.run, "sa": first.stage, "rb": second.run, "sb": second.stage}


def counts_of(session: Session, kind: str, first: Side, second: Side) -> dict[str, Any]:
    """Return the number of items of both stages by outcome, and the shares that each is right."""
    paired, params = paired_items(kind, first, second)
    counted = ", ".join(f"count(*) FILTER ({condition}) AS {name}" for name, condition in OUTCOMES.items())
    return session.once(
        ("counts", kind, first, second),
        lambda: session.rows(
            f"{paired} SELECT count(*) AS items, count(*) FILTER (scored) AS scored, {counted}, "
            "avg(share_a) AS share_a, avg(share_b) AS share_b FROM paired",
            params,
        )[0],
    )


def _pairs(session: Session, kind: str, first: Side, second: Side, wanted: Comparison) -> dict[str, Any]:
    """Return the counts of the outcomes, their test, and a page of items."""
    return session.once(
        ("pairs", kind, first, second, wanted.outcome, wanted.after),
        lambda: _read_pairs(session, kind, first, second, wanted),
    )


def _read_pairs(session: Session, kind: str, first: Side, second: Side, wanted: Comparison) -> dict[str, Any]:
    paired, params = paired_items(kind, first, second)
    counts = counts_of(session, kind, first, second)
    rows = session.rows(
        f"{paired} SELECT * FROM paired WHERE ({OUTCOMES.get(wanted.outcome, 'true')}) AND item > $after "
        "ORDER BY item LIMIT $most",
        params | {"after": wanted.after, "most": PAIRS_A_PAGE + 1},
    )
    for row in rows:
        row["outcome"] = ("both" if row["y"] else "lost") if row["x"] else ("won" if row["y"] else "neither")
    page = rows[:PAIRS_A_PAGE]
    _ADD_GRIDS[kind](session, page, first, second)
    address = {"kind": kind, "a": first.run, "b": second.run, "a_stage": first.stage, "b_stage": second.stage}
    return {
        "item_name": JUDGED[kind],
        "counts": counts,
        "p_value": sign_test(counts["won"], counts["lost"]),
        "pairs": page,
        "outcomes": {name: link("compare", **address, outcome=name) for name in OUTCOMES},
        "everything": link("compare", **address),
        "more": link("compare", **address, outcome=wanted.outcome, after=page[-1]["item"])
        if len(rows) > PAIRS_A_PAGE
        else None,
    }


def _add_task_grids(session: Session, page: list[dict[str, Any]], first: Side, second: Side) -> None:
    """Add the first test input of each task, and the first pick of both sides for it."""
    ids = [row["item"] for row in page]
    tests = {
        row["task_id"]: row["test"]
        for row in session.rows(
            "SELECT task_id, tests[1] AS test FROM tasks WHERE run_id = ? AND stage = ? "
            f"AND task_id IN ({places(ids)})",
            [first.run, first.stage, *ids],
        )
    }
    picks = {
        (row["run_id"], row["stage"], row["task_id"]): row["grid"]
        for row in session.rows(
            "SELECT run_id, stage, task_id, grid FROM picks WHERE run_id IN (?, ?) AND stage IN (?, ?) "
            f"AND test_index = 0 AND rank = 0 AND task_id IN ({places(ids)})",
            [first.run, second.run, first.stage, second.stage, *ids],
        )
    }
    for row in page:
        row["test"] = tests.get(row["item"])
        row["pick_a"], row["pick_b"] = (picks.get((side.run, side.stage, row["item"])) for side in (first, second))
        row["links"] = [
            (
                f"{name}: {counted(row[f'attempts_{name}'], 'attempt')}",
                row[f"score_{name}"],
                link("task", run=side.run, stage=side.stage, id=row["item"]),
            )
            for name, side in (("a", first), ("b", second))
        ]


def _add_puzzle_grids(_session: Session, page: list[dict[str, Any]], _first: Side, _second: Side) -> None:
    for row in page:
        row["looks"] = [
            puzzle_look(row["kind"], row["size"], row["question"], row[f"prediction_{name}"]) for name in "ab"
        ]


def _add_vote_grids(session: Session, page: list[dict[str, Any]], _first: Side, _second: Side) -> None:
    for name in "ab":
        of_side = [
            row | {"run_id": row[f"votes_run_{name}"], "vote_run_id": None, "vote_stage": row[f"votes_{name}"]}
            for row in page
        ]
        add_votes(session, of_side)
        for row, voted in zip(page, of_side, strict=True):
            row["test"] = voted["test"]
            row[f"pick_{name}"] = voted["grids"][0]["grid"] if voted["grids"] else None


_ADD_GRIDS = {"tasks": _add_task_grids, "puzzles": _add_puzzle_grids, "votes": _add_vote_grids}


def settings_that_differ(session: Session, a: str, b: str) -> list[tuple[str, str]]:
    """Return (stage, what differs) of two runs by their recorded graphs: fields from a's to b's value, and inputs."""
    rows = session.rows("SELECT run_id, graph FROM runs WHERE run_id IN ($a, $b)", {"a": a, "b": b})
    found = {row["run_id"]: row["graph"] for row in rows}
    graphs = [read_graph(found.get(run))[0] for run in (a, b)]
    if graphs[0] is None or graphs[1] is None:
        return []
    listed = []
    for change in diff_graphs(graphs[0], graphs[1]):
        if change.fields:
            listed.append((change.stage, ", ".join(str(field) for field in change.fields[:8])))
        elif change.change in ("added", "removed"):
            listed.append((change.stage, "only in b" if change.change == "added" else "only in a"))
    return listed


def sign_test(won: int, lost: int) -> float | None:
    """Return the two-sided p-value of the exact sign test (McNemar's exact test); None without a differing task."""
    number, extreme = won + lost, min(won, lost)
    if number == 0:
        return None
    if number > 1000:  # normal approximation with continuity correction, exact to 3 digits at this size
        return math.erfc(max(0.0, abs(won - lost) - 1) / math.sqrt(2 * number))
    tail = sum(math.comb(number, k) for k in range(extreme + 1))
    return min(1.0, float(2 * tail / 2**number))


def stages_of(session: Session, kind: str) -> Stages:
    """Return the stages of a kind, of the latest runs first."""
    return session.once(("stages to compare", kind), lambda: KINDS[kind][1](session))


def has_all(session: Session, kind: str, runs: Mapping[str, str | None]) -> bool:
    """Return whether each of some runs has stages of a kind; None stands for any run."""
    if kind != "training":
        return all(has_rows(session, kind, run) for run in runs.values())
    return all(session.once(("has curves", run), partial(has_curves, session, run)) for run in runs.values())


def kind_of(session: Session, wanted: Comparison) -> str:
    """Return the wanted kind, or the first that fits the runs. Raises GridloomError for an unknown one."""
    if wanted.kind and wanted.kind not in KINDS:
        raise GridloomError(f"no comparison of '{wanted.kind}'", f"one of {', '.join(KINDS)}")
    return wanted.kind or _fitting(session, wanted)


def _fitting(session: Session, wanted: Comparison) -> str:
    """Return the first kind that all wanted runs have, or else the first that two runs have."""
    given = {run: run for run in (wanted.a, wanted.b, *wanted.more) if run}
    having = [kind for kind in KINDS if has_all(session, kind, {"any": None})]
    for kind in having:
        if given and has_all(session, kind, given):
            return kind
        if not given and len({row["run_id"] for row in stages_of(session, kind)}) > 1:
            return kind
    return having[0] if having else "tasks"


def _latest_two(stages: Stages) -> tuple[str, str]:
    """Return the two runs to compare: the latest two of one name, or else the latest two, or one that has two stages.

    Empty for one that lacks.
    """
    names = {row["run_id"]: row["name"] for row in stages}
    runs = list(names)
    for place, run in enumerate(runs):
        earlier = next((other for other in runs[place + 1 :] if names[other] == names[run]), None)
        if earlier is not None:
            return earlier, run
    if len(runs) > 1:
        return runs[1], runs[0]
    # the stages of a sweep are compared within its run
    return (runs[0], runs[0]) if len(stages) > 1 else ("", runs[0] if runs else "")


def _with_another(stages: Stages, a: str, b: str) -> tuple[str, str]:
    """Return two runs of which one is given: beside it the latest other run of its name, or else the latest other."""
    given = a or b
    names = {row["run_id"]: row["name"] for row in stages}
    others = [run for run in names if run != given]
    other = next((run for run in others if names[run] == names.get(given)), others[0] if others else "")
    return (a, other) if a else (other, b)


def _two_stages(stages: Stages, side: Side, wanted: Comparison) -> tuple[Side, Side]:
    """Return two sides of one run, unlike in their stage where the run has several and the choice leaves it open."""
    other = next(
        (row["stage"] for row in stages if row["run_id"] == side.run and row["stage"] != side.stage), side.stage
    )
    return (Side(side.run, other), side) if wanted.b_stage else (side, Side(side.run, other))


def side_of(stages: Stages, run: str, stage: str) -> Side | None:
    """Return the side of a run and stage, by default its first; None without a run."""
    if not run:
        return None
    of_run = [row["stage"] for row in stages if row["run_id"] == run]
    if not of_run:
        raise GridloomError(f"run '{run}' has no stage of this kind", "choose another run")
    if stage and stage not in of_run:
        raise GridloomError(f"run '{run}' has no stage '{stage}' of this kind", f"it has {', '.join(of_run)}")
    return Side(run, stage or of_run[0])
