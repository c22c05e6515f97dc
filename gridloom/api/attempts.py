"""A recorded attempt as scripts hold it: a view of the ledger's row, which reads the rest when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from gridloom.api.grids import Grid, Pair, Task, panels_svg
from gridloom.api.markup import Markup, document, element, folded, table
from gridloom.stores.runs.names import attempt_name


@dataclass(frozen=True, eq=False, repr=False)
class Attempt:
    """Attempt at a task, as recorded in the ledger.

    Values that the row of `v_attempts` lacks (prompt, text, task, candidates, signals) are read at their first use.
    """

    columns: Mapping[str, Any]
    """Columns of the ledger by name; `columns["checkpoint_key"]` and others have no property."""
    read: Callable[[], Mapping[str, Any]] = field(repr=False)
    """Function that reads all records of the attempt; raises StoreError."""

    @property
    def attempt_id(self) -> str:
        """`TASK.NUMBER`, or `TASK.NUMBER+FORK` for a fork made by a replay with changes; unique in its stage."""
        return str(self.columns["attempt_id"])

    @property
    def name(self) -> str:
        """Name that no other attempt of the ledger has: `attempt_id`, `@`, and a few digits for run and stage."""
        return attempt_name(self.columns)

    @property
    def run_id(self) -> str:
        """Run that made it."""
        return str(self.columns["run_id"])

    @property
    def stage(self) -> str:
        """Solve stage that made it."""
        return str(self.columns["stage"])

    @property
    def task_id(self) -> str:
        """Task that it answers."""
        return str(self.columns["task_id"])

    @property
    def number(self) -> int:
        """Number of the attempt at its task, from 1."""
        return int(self.columns["attempt"])

    @property
    def parent(self) -> str | None:
        """Attempt that a fork was made from; None for an attempt of the loop."""
        parent: str | None = self.columns["parent"]
        return parent

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        """Proposed grid of each test input; None where none was proposed."""
        return tuple(map(_grid, self.columns["grids"]))

    @property
    def verdict(self) -> str:
        """`accepted` or `rejected`: the verifiers' judgement, made without the answer."""
        return str(self.columns["verdict"])

    @property
    def accepted(self) -> bool:
        """Whether the verifiers accepted it."""
        return self.verdict == "accepted"

    @property
    def score(self) -> float | None:
        """Weighted mean of the verifiers' scores, in [0, 1]; None where none could be computed."""
        score: float | None = self.columns["score"]
        return score

    @property
    def solved(self) -> bool | None:
        """Whether its grids are right by the held-out answers; None where that was not scored."""
        solved: bool | None = self.columns["solved"]
        return solved

    @property
    def feedback(self) -> str:
        """Faults that the verifiers found, as the next attempt reads them; empty when there are none."""
        return str(self.columns["feedback"] or "")

    @property
    def plan(self) -> dict[str, Any]:
        """Settings of the attempt: views, steps, seed, temperature, ..."""
        return _parsed(self.columns["plan"])

    @property
    def timings(self) -> dict[str, float]:
        """Seconds that each node of the loop took."""
        return _parsed(self.columns["timings"])

    @property
    def seconds(self) -> float:
        """Seconds of work: the sum of `timings`, without the waiting for other tasks."""
        return float(sum(self.timings.values()))

    @property
    def started_at(self) -> datetime:
        """Time at which it began, in UTC."""
        return _time(self.columns["started_at"])

    @property
    def ended_at(self) -> datetime:
        """Time at which it ended, in UTC."""
        return _time(self.columns["ended_at"])

    @cached_property
    def details(self) -> Mapping[str, Any]:
        """Everything recorded, by column, with `task`, `candidates`, `verdicts`, `trm_steps` and `llm_call`."""
        return self.read()

    @property
    def prompt(self) -> str | None:
        """Text that the language model read; None without one."""
        prompt: str | None = self.details["prompt"]
        return prompt

    @property
    def text(self) -> str | None:
        """Text that the language model wrote; None without one."""
        text: str | None = self.details["text"]
        return text

    @property
    def task(self) -> Task | None:
        """Task of the solve stage, without answers; None where its record is lost."""
        found = self.details["task"]
        if found is None:
            return None
        demos = tuple(Pair(Grid(pair["input"]), Grid(pair["output"])) for pair in found["demos"])
        return Task(self.task_id, demos, tuple(map(Grid, found["tests"])))

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Every grid that views voted for: `test_index`, `rank`, `source`, `grid`, `votes`, `num_views`, ..."""
        return [dict(row) for row in self.details["candidates"]]

    @property
    def signals(self) -> dict[str, float | None]:
        """Score of each verifier, in [0, 1]; None where it could not be computed for the task."""
        return {row["verifier"]: row["score"] for row in self.details["verdicts"]}

    def __repr__(self) -> str:
        score = "" if self.score is None else f" {self.score:.2f}"
        return f"<Attempt {self.name} of stage {self.stage}, run {self.run_id}: {self.verdict}{score}>"

    def _repr_html_(self) -> str:
        """Draw task, proposed grids, verdict, signals, prompt and text, for notebooks."""
        parts: list[Markup] = [element("h4", f"attempt {self.name}"), element("p", self._judged())]
        if self.feedback:
            parts.append(element("pre", self.feedback, style="white-space:pre-wrap"))
        if (task := self.task) is not None:
            parts.append(Markup(task._repr_svg_()))
        parts.append(Markup(panels_svg("proposed", [(f"test {i}", grid) for i, grid in enumerate(self.grids, 1)])))
        rows = ((row["verifier"], _shown(row["score"]), row["detail"]) for row in self.details["verdicts"])
        parts.append(table(("verifier", "score", "detail"), rows))
        parts.append(folded("plan", json.dumps(self.plan, indent=1, ensure_ascii=False)))
        parts += [folded(title, text) for title, text in (("prompt", self.prompt), ("text", self.text)) if text]
        return document(*parts)

    def _judged(self) -> str:
        right = {True: ", right", False: ", wrong", None: ""}[self.solved]
        origin = f", forked from {self.parent}" if self.parent else ""
        return f"run {self.run_id}, stage {self.stage}{origin}: {self.verdict} {_shown(self.score)}{right}"


def _grid(rows: list[list[int]]) -> Grid | None:
    return Grid(rows) if rows else None


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:.2f}"


def _parsed(value: Any) -> dict[str, Any]:
    """Return a JSON column as data, whether it was read as text or as a record."""
    parsed: dict[str, Any] = json.loads(value) if isinstance(value, str) else dict(value)
    return parsed


def _time(value: datetime | float) -> datetime:
    """Return a time of a view (naive UTC) or of a record (seconds since the epoch) with its time zone."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
