"""Checkpoint and Paths: choose a checkpoint and data; step through its answer to an item, or see how it plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from gridloom.errors import GridloomError, ModelError
from gridloom.runtime.checkpoints.description import read_description, shipped_names
from gridloom.view.drawing.charts import Series, line_chart
from gridloom.view.drawing.heat import HeatRow, heat_table
from gridloom.view.drawing.numbers import figure
from gridloom.view.html import link
from gridloom.view.models import SHIPPED, Networks
from gridloom.view.reader import Session

if TYPE_CHECKING:
    from gridloom.view.stepping.steps import PathsOfStep, Stepped

ITEMS_AT_ONCE = 16
"""Items whose paths are shown beside one another."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is stepped through."""

    checkpoint: str = ""
    data: str = ""
    item: str = "1"
    """Number of the test input, puzzle or sequence, from 1."""
    weights: str = "ema"
    """`ema`, the average that training kept, or `raw`."""
    steps: str = ""
    """ACT steps; empty for the network's own number."""

    def address(self, page: str = "checkpoint", **changed: str) -> str:
        """Return the address of a page of this choice with some values changed."""
        return link(page, **({name: getattr(self, name) for name in self.__slots__} | changed))


def choices(session: Session | None) -> dict[str, Any]:
    """Return what can be chosen; of a workspace without records (None) the shipped checkpoints."""
    return {"checkpoints": checkpoints(session), "datasets": datasets(session)}


def planner_choices(session: Session | None) -> dict[str, Any]:
    """Return what can be chosen of the checkpoints that plan."""
    return {"checkpoints": planners(session), "datasets": datasets(session)}


def checkpoint_page(networks: Networks, choice: Choice) -> dict[str, Any]:
    """Return the steps of the chosen checkpoint on the chosen item, or what is wrong with the choice."""
    values: dict[str, Any] = {
        "choice": choice,
        "stepped": None,
        "facts": None,
        "error": None,
        "charts": [],
        "prev": None,
        "next": None,
    }
    if not choice.checkpoint or not choice.data:
        return values
    try:
        item, steps = _number("item", choice.item), _number("steps", choice.steps) if choice.steps else None
        if choice.weights not in ("ema", "raw"):
            raise GridloomError(f"no weights '{choice.weights}'", "ema or raw")
        stepped, facts = networks.step(
            choice.checkpoint, choice.data, item - 1, "use" if choice.weights == "ema" else "raw", steps
        )
    except GridloomError as error:
        return values | {"error": error}
    return values | {
        "stepped": stepped,
        "facts": facts,
        "charts": _charts(stepped),
        "prev": choice.address(item=str(item - 1)) if item > 1 else None,
        "next": choice.address(item=str(item + 1)) if item < facts["items"] else None,
    }


def checkpoints(session: Session | None) -> list[tuple[str, str]]:
    """Return (key, label) of the checkpoints of the workspace, newest first, then of those shipped with gridloom."""
    return _artifacts(session, ("checkpoint",)) + [
        (f"{SHIPPED}{name}", f"{name} (shipped)") for name in shipped_names()
    ]


def datasets(session: Session | None) -> list[tuple[str, str]]:
    """Return (key, label) of the data of the workspace that can be stepped through, newest first."""
    return _artifacts(session, ("dataset", "puzzles", "sequences"))


def planners(session: Session | None) -> list[tuple[str, str]]:
    """Return (key, label) of the checkpoints of the workspace whose engine plans, newest first."""
    return [(key, label) for key, label in _artifacts(session, ("checkpoint",)) if session and _plans(session, key)]


def _plans(session: Session, key: str) -> bool:
    try:
        artifact = session.artifact(key)
        spec = read_description(artifact.path)["parts"]["trm"]["config"]["spec"] if artifact else {}
    except GridloomError:
        return False  # the page Checkpoint names what is wrong with it
    return spec.get("planning") is not None


def paths_page(networks: Networks, choice: Choice) -> dict[str, Any]:
    """Return the paths of some items in the last ACT step, and of the chosen one in every step.

    Items that the checkpoint cannot read are named beside the others, the chosen one too.
    """
    values = checkpoint_page(networks, choice) | {"overview": "", "every_step": "", "left_out": []}
    stepped, error = values["stepped"], values["error"]
    if stepped is not None and stepped.paths is None:
        error = GridloomError("this checkpoint does not plan", "choose an engine trained with  planning: {}")
        return values | {"stepped": None, "error": error}
    if stepped is None and not isinstance(error, ModelError):
        return values
    item = _number("item", choice.item)
    first = (item - 1) // ITEMS_AT_ONCE * ITEMS_AT_ONCE
    steps = _number("steps", choice.steps) if choice.steps else None
    weights: Literal["use", "raw"] = "use" if choice.weights == "ema" else "raw"
    try:
        plans = networks.plans(choice.checkpoint, choice.data, first, ITEMS_AT_ONCE, weights, steps)
    except GridloomError as problem:
        return values | {"stepped": None, "error": error or problem}
    shown = [(one, one.paths) for one in plans if one.paths is not None]
    columns = [f"path {number}" for number in range(1, len(shown[0][1].weights) + 1)]
    count = max(one.count for one in plans)
    return values | {
        "overview": heat_table(
            "Weights of the paths in the last ACT step by item",
            columns,
            [_heat(one.label, paths) for one, paths in shown],
        ),
        "every_step": heat_table(
            "Weights of the paths by planning call",
            columns,
            [_heat(f"call {number}", paths) for number, paths in enumerate(stepped.paths if stepped else [], 1)],
        ),
        "first": first + 1,
        "last": first + len(plans),
        "left_out": [(one.label, one.problem) for one in plans if one.paths is None],
        "prev": choice.address("paths", item=str(item - 1)) if item > 1 else None,
        "next": choice.address("paths", item=str(item + 1)) if item < count else None,
    }


def _heat(name: str, paths: PathsOfStep) -> HeatRow:
    texts = [figure(value, 3) if paths.planned else "-" for value in paths.values]
    return HeatRow(f"{name} (gate {paths.gate:.2f})", paths.weights, texts, paths.chosen)


def _artifacts(session: Session | None, types: tuple[str, ...]) -> list[tuple[str, str]]:
    if session is None:
        return []
    rows = session.rows(
        "SELECT key, type, kind, run_id, stage FROM artifacts WHERE type IN (SELECT unnest($types)) "
        "ORDER BY created_at DESC LIMIT 200",
        {"types": [*types]},
    )
    found = []
    for row in rows:
        try:
            is_there = session.artifact(row["key"]) is not None
        except GridloomError:
            is_there = True  # a broken one is listed, and named when it is chosen
        if is_there:
            found.append((row["key"], f"{row['stage']} ({row['kind']}) of run {row['run_id']}"))
    return found


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise GridloomError(f"{name} is '{text}'", "a whole number from 1")
    return int(text)


def _charts(stepped: Stepped) -> list[Any]:
    def drawn(title: str, values: list[float], **options: Any) -> Any:
        points = [(float(number), value) for number, value in enumerate(values, 1)]
        return line_chart(title, [Series(title, points, dots=True)], x_label="ACT step", **options)

    charts = [
        drawn("halting probability", stepped.halting, y_range=(0.0, 1.0)),
        drawn("changed positions", [float(value) for value in stepped.changed]),
        drawn("mean confidence", stepped.confidence),
    ]
    if stepped.residual is not None:
        charts.append(drawn("residual", stepped.residual, log_y=True))
    if stepped.paths:
        number = len(stepped.paths[0].weights)
        series = [
            Series(f"path {p + 1}", [(float(t), step.weights[p]) for t, step in enumerate(stepped.paths, 1)], dots=True)
            for p in range(number)
        ]
        gates = [(float(t), step.gate) for t, step in enumerate(stepped.paths, 1)]
        charts.append(line_chart("weights of the paths", series, x_label="planning call", y_range=(0.0, 1.0)))
        charts.append(
            line_chart("gate", [Series("gate", gates, dots=True)], x_label="planning call", y_range=(0.0, 1.0))
        )
    return [chart for chart in charts if chart]
