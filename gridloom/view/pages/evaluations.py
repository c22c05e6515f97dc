"""Evaluations without a solver: answers to mazes and sudokus, votes on ARC tests, sequences by their difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridloom.errors import GridloomError
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.drawing.puzzles import puzzle_look
from gridloom.view.html import link
from gridloom.view.pages.evaluation_scores import TABLES, has_rows
from gridloom.view.pages.runs import recorded_graph
from gridloom.view.pages.task_inputs import data_key, inputs_of
from gridloom.view.reader import Session

if TYPE_CHECKING:
    from gridloom.view.models import Networks

ITEMS_A_PAGE = 60
SEQUENCES_A_PAGE = 24
LABELS = {"tasks": "Tasks", "puzzles": "Puzzles", "votes": "Votes", "sequences": "Sequences"}
"""Name of each page of tasks."""
PUZZLE_STATES = {
    "all": "true",
    "exact": "exact",
    "wrong": "exact = false",
    "valid": "valid",
    "valid, not exact": "valid AND exact = false",
    "invalid": "NOT valid",
}
"""Filters by the outcome of a puzzle, as SQL."""
VOTE_STATES = {
    "all": "true",
    "first": "rank = 0",
    "second": "rank = 1",
    "later": "rank > 1",
    "no vote": "rank IS NULL",
}
"""Filters by the rank of the right grid among the votes, as SQL."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Items of an evaluation that are shown."""

    page: str
    """puzzles, votes or sequences."""
    run: str = ""
    stage: str = ""
    state: str = "all"
    after: str = ""
    """Last item before the first one shown: a puzzle's number, TASK/TEST, or the number of sequences before it."""

    def address(self, **changed: str) -> str:
        """Return the address of this page with some values changed."""
        values = {name: getattr(self, name) for name in ("run", "stage", "state", "after")} | changed
        return link(self.page, **values)


def kinds_of_tasks(session: Session, here: str, run: str = "") -> list[tuple[str, str, bool]]:
    """Return (label, address, whether it is this one) of the pages of tasks that have something to show.

    Args:
        run: run whose evaluations are linked, where it has some.
    """
    found = []
    for page, label in LABELS.items():
        of_run = bool(run) and has_rows(session, page, run)
        if of_run or has_rows(session, page, None):
            found.append((label, link(page, run=run if of_run else ""), page == here))
    return found


def pages_of_run(session: Session, run: str) -> list[tuple[str, str]]:
    """Return (label, address) of the pages of tasks that have something of a run."""
    return [(label, link(page, run=run)) for page, label in LABELS.items() if has_rows(session, page, run)]


def evaluation_stages(session: Session, page: str) -> list[dict[str, Any]]:
    """Return the stages with rows of an evaluation, of the latest runs first: run_id, stage, name."""
    return session.rows(
        f"SELECT e.run_id, e.stage, r.name FROM (SELECT DISTINCT run_id, stage FROM {TABLES[page]}) e "
        "LEFT JOIN runs r USING (run_id) ORDER BY r.started_at DESC NULLS LAST, e.run_id DESC, e.stage LIMIT 200"
    )


def puzzles_page(session: Session, wanted: Evaluated) -> dict[str, Any]:
    """Return a page of puzzles with their answers. Raises GridloomError for an unknown run, stage or filter."""
    values = _start(session, wanted, PUZZLE_STATES)
    wanted = values["filter"]
    if not values["stages"]:
        return values
    params = {"run": wanted.run, "stage": wanted.stage, "after": _number(wanted.after), "most": ITEMS_A_PAGE + 1}
    where = "run_id = $run AND stage = $stage"
    figures = session.rows(
        "SELECT any_value(kind) AS kind, count(*) AS answered, count(exact) AS scored, "
        "count(*) FILTER (exact) AS exact, count(*) FILTER (valid) AS valid, "
        "sum(cells_right) FILTER (exact IS NOT NULL) / sum(num_cells) FILTER (exact IS NOT NULL) AS cells, "
        f"avg(act_steps) AS act_steps, count(*) FILTER ({PUZZLE_STATES[wanted.state]}) AS shown "
        f"FROM puzzle_predictions WHERE {where}",
        {name: params[name] for name in ("run", "stage")},
    )[0]
    rows = session.rows(
        f"FROM puzzle_predictions WHERE {where} AND ({PUZZLE_STATES[wanted.state]}) AND puzzle > $after "
        "ORDER BY puzzle LIMIT $most",
        params,
    )
    page, data = rows[:ITEMS_A_PAGE], data_key(session, wanted.run, wanted.stage)
    for row in page:
        row["look"] = puzzle_look(row["kind"], row["size"], row["question"], row["prediction"])
        row["step"] = None
        if data is not None:
            row["step"] = link("checkpoint", checkpoint=row["checkpoint_key"], data=data, item=row["puzzle"] + 1)
    return values | {
        "figures": figures | _shares(figures),
        "puzzles": page,
        "more": wanted.address(after=str(page[-1]["puzzle"])) if len(rows) > ITEMS_A_PAGE else None,
    }


def _shares(figures: dict[str, Any]) -> dict[str, Any]:
    scored, answered = figures["scored"], figures["answered"]
    exact = figures["exact"] / scored if scored else None
    valid = figures["valid"] / answered
    return {
        "exact_share": exact,
        "exact_interval": None if exact is None else wilson(exact, scored),
        "valid_share": valid,
        "valid_interval": wilson(valid, answered),
    }


def votes_page(session: Session, wanted: Evaluated) -> dict[str, Any]:
    """Return a page of ARC test inputs with the grids of most votes and the rank of the right one.

    Raises GridloomError for an unknown run, stage or filter.
    """
    values = _start(session, wanted, VOTE_STATES)
    wanted = values["filter"]
    if not values["stages"]:
        return values
    params = {"run": wanted.run, "stage": wanted.stage}
    figures = session.rows(
        "SELECT count(*) AS tests, count(*) FILTER (rank = 0) AS pass1, count(*) FILTER (rank <= 1) AS pass2, "
        f"count(rank) AS voted, avg(cell_accuracy) AS cells, count(*) FILTER ({VOTE_STATES[wanted.state]}) AS shown "
        "FROM evaluations WHERE run_id = $run AND stage = $stage",
        params,
    )[0]
    task, _, test = wanted.after.partition("/")
    rows = session.rows(
        "FROM evaluations WHERE run_id = $run AND stage = $stage "
        f"AND ({VOTE_STATES[wanted.state]}) AND (task_id, test_index) > ($task, $test) "
        "ORDER BY task_id, test_index LIMIT $most",
        params | {"task": task, "test": _number(test), "most": ITEMS_A_PAGE + 1},
    )
    page = rows[:ITEMS_A_PAGE]
    add_votes(session, page)
    for name in ("pass1", "pass2"):
        figures[f"{name}_share"] = figures[name] / figures["tests"] if figures["tests"] else None
        share = figures[f"{name}_share"]
        figures[f"{name}_interval"] = None if share is None else wilson(share, figures["tests"])
    last = page[-1] if page else None
    more = wanted.address(after=f"{last['task_id']}/{last['test_index']}") if last and len(rows) > len(page) else None
    return values | {"figures": figures, "tests": page, "more": more}


def add_votes(session: Session, page: list[dict[str, Any]]) -> None:
    """Add to each test input the three best grids, and its own grid where the data that was read has it.

    The grids are ranked as the count ranks them: by votes, then mean halting probability, then earlier view.
    """
    if not page:
        return
    run, stage = page[0]["vote_run_id"] or page[0]["run_id"], page[0]["vote_stage"]
    tasks = [row["task_id"] for row in page]
    votes: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in session.rows(
        "SELECT task_id, test_index, grid, votes FROM (SELECT task_id, test_index, grid, count(*) AS votes, "
        "avg(1 / (1 + exp(least(-q_halt, 700)))) AS halting, min(view_index) AS first "
        "FROM predictions WHERE run_id = $run AND stage = $stage "
        "AND task_id IN (SELECT unnest($tasks)) AND grid IS NOT NULL GROUP BY task_id, test_index, grid) "
        "QUALIFY row_number() OVER (PARTITION BY task_id, test_index ORDER BY votes DESC, halting DESC, first) <= 3 "
        "ORDER BY task_id, test_index, votes DESC, halting DESC, first",
        {"run": run, "stage": stage, "tasks": tasks},
    ):
        votes.setdefault((row["task_id"], row["test_index"]), []).append(row)
    known = inputs_of(session, run, stage, tasks)
    for row in page:
        row["grids"] = votes.get((row["task_id"], row["test_index"]), [])
        tests = known.get(row["task_id"], [])
        row["test"] = tests[row["test_index"]] if row["test_index"] < len(tests) else None


def sequences_page(session: Session, wanted: Evaluated) -> dict[str, Any]:
    """Return the answers to sequences by difficulty. Raises GridloomError for an unknown run or stage."""
    values = _start(session, wanted, {"all": "true"})
    wanted = values["filter"]
    if not values["stages"]:
        return values
    rows = session.rows(
        "FROM difficulties WHERE run_id = ? AND stage = ? ORDER BY difficulty", [wanted.run, wanted.stage]
    )
    for row in rows:
        row["share"] = row["num_right"] / row["num_scored"] if row["num_scored"] else None
        row["interval"] = None if row["share"] is None else wilson(row["share"], row["num_scored"])
        row["places"] = row["num_places_right"] / row["num_places"] if row["num_places"] else None
    right = [(float(row["difficulty"]), row["share"]) for row in rows if row["share"] is not None]
    band = [(float(row["difficulty"]), *row["interval"]) for row in rows if row["interval"] is not None]
    steps = [(float(row["difficulty"]), row["mean_steps"]) for row in rows]
    charts = [
        line_chart(
            "right sequences", [Series("right", right, band, dots=True)], x_label="difficulty", y_range=(0.0, 1.0)
        ),
        line_chart("mean steps", [Series("steps", steps, dots=True)], x_label="difficulty"),
    ]
    key, data = rows[0]["checkpoint_key"], data_key(session, wanted.run, wanted.stage)
    return values | {
        "rows": rows,
        "charts": [chart for chart in charts if chart],
        "data": data,
        "act_steps": _act_steps(session, wanted),
        "one_by_one": wanted.address(after="0") if key and data else None,
        "answers": [],
        "error": None,
    }


def sequence_answers(networks: Networks, values: dict[str, Any]) -> dict[str, Any]:
    """Return a page of single sequences behind `after`, answered by the checkpoint that was evaluated.

    Args:
        values: what `sequences_page` returned; nothing is answered where it has no `after`.
    """
    wanted, first = values["filter"], _number(values["filter"].after)
    if not values["stages"] or first < 0 or values["one_by_one"] is None:
        return values
    checkpoint = values["rows"][0]["checkpoint_key"]
    try:
        answers = networks.answers(checkpoint, values["data"], first, SEQUENCES_A_PAGE, values["act_steps"])
    except GridloomError as error:
        return values | {"error": error}
    cards = [
        {
            "item": one.item,
            "answer": one.answer,
            "halting": one.halting,
            "step": link("checkpoint", checkpoint=checkpoint, data=values["data"], item=one.number + 1),
        }
        for one in answers
    ]
    last = first + SEQUENCES_A_PAGE
    return values | {
        "answers": cards,
        "prev": wanted.address(after=str(max(0, first - SEQUENCES_A_PAGE))) if first else None,
        "next": wanted.address(after=str(last)) if answers and last < answers[0].item.count else None,
    }


def _act_steps(session: Session, wanted: Evaluated) -> int | None:
    """Return the ACT steps that an evaluation was given; None for the network's own number."""
    graph, _ = recorded_graph(session, wanted.run)
    spec = next((node.spec for node in graph.nodes if node.name == wanted.stage), {}) if graph else {}
    steps = spec.get("act_steps")
    return steps if isinstance(steps, int) else None


def _start(session: Session, wanted: Evaluated, states: dict[str, str]) -> dict[str, Any]:
    """Return what every page of an evaluation shows, with the run and the stage that are meant."""
    stages = evaluation_stages(session, wanted.page)
    if wanted.state not in states:
        raise GridloomError(f"no outcome '{wanted.state}'", f"one of {', '.join(states)}")
    values: dict[str, Any] = {"stages": stages, "states": list(states), "more": None}
    if stages:
        run = wanted.run or stages[0]["run_id"]
        of_run = [row["stage"] for row in stages if row["run_id"] == run]
        if not of_run:
            raise GridloomError(f"run '{run}' has no evaluation of this kind", "choose another run")
        if wanted.stage and wanted.stage not in of_run:
            raise GridloomError(f"run '{run}' has no evaluation stage '{wanted.stage}'", f"it has {', '.join(of_run)}")
        wanted = Evaluated(wanted.page, run, wanted.stage or of_run[0], wanted.state, wanted.after)
    return values | {"filter": wanted, "kinds": kinds_of_tasks(session, wanted.page, wanted.run)}


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
