"""Results of `data show`, `stats`, `sample` and `leaks` as data, without printing or drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gridloom.errors import DataError
from gridloom.runtime.data.arc.canonical import Leak, find_leaks
from gridloom.runtime.data.arc.read import RawTask, refuse_too_large
from gridloom.runtime.data.arc.sources import Subset, open_source
from gridloom.runtime.data.files.grids import MAX_SIDE, GridTooLarge
from gridloom.runtime.data.tasks import Grid, Task
from gridloom.specs.data import Augment
from gridloom.user_files import exists, is_file, is_folder, named_path
from gridloom.wording import near_and_known


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """Labelled grid; None for a held-out grid."""

    label: str
    grid: Grid | None
    glyphs: str = "0123456789"
    """Terminal character of each colour."""


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Rows of panels under a title, input of the renderers."""

    title: str
    rows: tuple[tuple[Panel, ...], ...]


@dataclass(frozen=True, slots=True)
class Spread:
    """Minimum, median and maximum of a sample."""

    smallest: int
    median: float
    largest: int

    @classmethod
    def of(cls, values: Sequence[int]) -> Spread:
        """Summarise values; zeros for no values."""
        return cls(min(values), float(np.median(values)), max(values)) if values else cls(0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class SubsetStats:
    """Statistics of one subset."""

    subset: str
    num_tasks: int
    num_demos: int
    num_tests: int
    demos: Spread
    """Demonstrations per task."""
    side: Spread
    """Larger side of each visible grid, in cells."""
    colours: Spread
    """Distinct colours in a task's visible grids."""
    same_size: int
    """Number of tasks whose outputs all have the size of their inputs."""
    occupied: float
    """Mean share of a 30x30 canvas that a visible grid covers."""
    tokens: Spread
    """Tokens of a visible grid on a 30x30 canvas, its border of EOS included; the other tokens of 900 are PAD."""


def read_subsets(source: str, base: Path, subsets: Sequence[str] = ()) -> dict[str, tuple[Task, ...]]:
    """Return the tasks of each named subset (default: all); test pairs with outputs are `known`. Raises DataError."""
    opened = open_source(source, base)
    return {name: _read_subset(opened.subset(name)) for name in subsets or opened.subsets}


def _read_subset(subset: Subset) -> tuple[Task, ...]:
    tasks: list[Task] = []
    too_large: dict[str, GridTooLarge] = {}
    for task_id in sorted(subset.files):
        try:
            tasks.append(RawTask.of(subset, task_id).read(subset.name, held_out=False, check_demos=0)[0])
        except GridTooLarge as problem:
            too_large[task_id] = problem
    refuse_too_large(subset.name, too_large, len(subset.files))
    return tuple(tasks)


def find_task(source: str, task_id: str, base: Path) -> Task:
    """Return the task of an id, `ID` or `SUBSET/ID`, or of a file `PATH.json`. Raises DataError with similar ids."""
    if task_id.endswith(".json"):
        # on the command line a file is named as it stands
        is_literal = task_id.startswith("~") and is_file(base / task_id)
        source, task_id = f"./{task_id}" if is_literal else task_id, Path(task_id).stem
    elif "/" in task_id and is_folder(base / task_id):
        raise DataError(f"{task_id} is a folder of tasks", f"name one of them, with  --source {task_id}")
    opened = open_source(source, base)
    subset_name, _, name = task_id.rpartition("/")
    known: list[str] = []
    for candidate in [subset_name] if subset_name else opened.subsets:
        subset = opened.subset(candidate)
        known += subset.files
        if name in subset.files:
            return RawTask.of(subset, name).read(candidate, held_out=False, check_demos=0)[0]
    raise DataError(f"{source}: no task {task_id!r}", near_and_known(name, sorted(set(known))))


def describe_task(task: Task, answers: bool = False) -> Sheet:
    """Return the task as a sheet, one row per pair; test outputs are shown only with `answers`."""
    rows = [(Panel(f"demo {i + 1}", p.input), Panel("output", p.output)) for i, p in enumerate(task.demos)]
    rows += [
        (Panel(f"test {i + 1}", p.input), Panel("answer" if answers else "held out", p.output if answers else None))
        for i, p in enumerate(task.known)
    ]
    rows += [(Panel(f"test {i + 1}", grid), Panel("held out", None)) for i, grid in enumerate(task.tests)]
    return Sheet(f"{task.subset}/{task.task_id}", tuple(rows))


def sample_sheet(task: Task, seed: int, num_views: int, augment: Augment) -> Sheet:
    """Return the first demonstration under the first views that training draws, one view per row."""
    from gridloom.runtime.data.arc.views import task_views

    views = task_views(task, seed, max(0, num_views - 1), augment)[:num_views]
    first = task.demos[0]
    rows = []
    for view in views:
        label = f"t{view.dihedral} {''.join(map(str, view.colours))}"
        rows.append((Panel(label, view.apply(first.input)), Panel("output", view.apply(first.output))))
    return Sheet(f"{task.subset}/{task.task_id}, {len(views)} views of demo 1", tuple(rows))


def dataset_stats(tasks_by_subset: dict[str, tuple[Task, ...]]) -> tuple[SubsetStats, ...]:
    """Return the statistics of each subset."""
    return tuple(_subset_stats(name, tasks) for name, tasks in tasks_by_subset.items())


def _subset_stats(name: str, tasks: Sequence[Task]) -> SubsetStats:
    grids = [_visible(task) for task in tasks]
    areas = [grid.size for found in grids for grid in found]
    return SubsetStats(
        subset=name,
        num_tasks=len(tasks),
        num_demos=sum(len(task.demos) for task in tasks),
        num_tests=sum(len(task.tests) + len(task.known) for task in tasks),
        demos=Spread.of([len(task.demos) for task in tasks]),
        side=Spread.of([max(grid.shape) for found in grids for grid in found]),
        colours=Spread.of([len({int(c) for grid in found for c in np.unique(grid)}) for found in grids]),
        same_size=sum(all(p.input.shape == p.output.shape for p in task.demos) for task in tasks),
        occupied=float(np.mean(areas)) / MAX_SIDE**2 if areas else 0.0,
        tokens=Spread.of([_num_tokens(grid) for found in grids for grid in found]),
    )


def _num_tokens(grid: Grid) -> int:
    rows, columns = (int(side) for side in grid.shape)
    return rows * columns + columns * (rows < MAX_SIDE) + rows * (columns < MAX_SIDE)


def _visible(task: Task) -> list[Grid]:
    """Return the grids of demonstrations and test inputs."""
    pairs = [grid for pair in task.demos for grid in (pair.input, pair.output)]
    return pairs + list(task.tests) + [pair.input for pair in task.known]


def leaks_between(left: str, right: str | None, base: Path) -> list[Leak]:
    """Return tasks of one source that also occur in another, or twice in one source.

    A source is written as in a spec, with an optional suffix `@SUBSET`. Raises DataError.
    """
    return find_leaks(_tasks_of(left, base), None if right is None else _tasks_of(right, base))


def split_subset(named: str, base: Path) -> tuple[str, str]:
    """Return source and subset of SOURCE@SUBSET; a path that exists is a source whole, an `@` in it too.

    The subset is empty where none is named.
    """
    source, mark, subset = named.rpartition("@")
    try:
        is_whole = exists(named_path(named, base))
    except OSError:
        is_whole = False  # the part before the `@` is refused, with the reason, when it is read
    return (source, subset) if mark and source and not is_whole else (named, "")


def _tasks_of(named: str, base: Path) -> list[Task]:
    source, subset = split_subset(named, base)
    return [task for tasks in read_subsets(source, base, (subset,) if subset else ()).values() for task in tasks]
