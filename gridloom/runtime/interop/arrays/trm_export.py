"""Export of any ARC source to a folder that TinyRecursiveModels trains on, with its builder's variants and ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.errors import DataError
from gridloom.progress import Progress
from gridloom.runtime.data.arc.sources import open_source
from gridloom.runtime.data.tasks import SEPARATOR
from gridloom.runtime.interop.arrays.trm_folder import (
    BLANK,
    TrmPlan,
    TrmTask,
    export_trm,
    read_trm_tasks_of,
    reference_plan,
)
from gridloom.stores.files.vacant import check_vacant

TEST_SUBSET = "evaluation"
"""Default subset whose test pairs are written to `test/`, if the source has it."""


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Counts of one split of a folder."""

    split: str
    num_tasks: int
    num_puzzles: int
    """Puzzles: tasks with all their variants."""
    num_rows: int


def export_source(
    source: str,
    base: Path,
    folder: Path,
    copies: int,
    subsets: Sequence[str] = (),
    test: str | None = None,
    seed: int = 42,
    progress: Progress | None = None,
) -> TrmPlan:
    """Write `folder` from the subsets of a source in this order; by default all, the test subset last.

    Raises DataError, and then leaves no files.
    """
    check_vacant(folder)
    opened = open_source(source, base)
    test = test or (TEST_SUBSET if TEST_SUBSET in (subsets or opened.subsets) else None)
    chosen = tuple(subsets) or (*(name for name in opened.subsets if name != test), *([test] if test else ()))
    if len(set(chosen)) != len(chosen):
        raise DataError(f"{source}: a subset is named twice: {', '.join(chosen)}", "name each subset once")
    if test is not None and test not in chosen:
        raise DataError(f"{source}: the test subset {test!r} is not read", f"name one of: {', '.join(chosen)}")
    tasks = [(name, read_trm_tasks_of(source, name, base)) for name in chosen]
    _refuse_repeats(source, tasks)
    for name, found in tasks:
        if name == test:
            _refuse_no_tests(source, name, found)
        else:
            _refuse_open_questions(source, name, found)
    plan = reference_plan(tasks, test or "", copies, seed)
    if progress is None:
        export_trm(folder, plan)
    else:
        with progress.task("export", plan.num_rows(), "rows") as bar:
            export_trm(folder, plan, bar.advance)
    return plan


def _refuse_repeats(source: str, tasks: Sequence[tuple[str, Sequence[TrmTask]]]) -> None:
    """Raise DataError for an id of two subsets (variants would share puzzle ids) or an id that parses as a variant."""
    where: dict[str, str] = {}
    for subset, found in tasks:
        for task in found:
            if SEPARATOR in task.task_id or task.task_id == BLANK:
                raise DataError(
                    f"{source}: task id {task.task_id!r} cannot be distinguished from a puzzle name", "rename the task"
                )
            if task.task_id in where:
                first = where[task.task_id]
                raise DataError(
                    f"{source}: task {task.task_id!r} is in two subsets: {first}/{task.task_id} and "
                    f"{subset}/{task.task_id}",
                    "name the subsets to write with --subset",
                )
            where[task.task_id] = subset


def _refuse_no_tests(source: str, subset: str, tasks: Sequence[TrmTask]) -> None:
    """Raise DataError for a task of the test subset without a test input, which could not be evaluated."""
    for task in tasks:
        if not task.unanswered:
            raise DataError(
                f"{source}: task {task.task_id!r} of the test subset {subset!r} has no test input",
                "name another subset with --test, or remove the task",
            )


def _refuse_open_questions(source: str, subset: str, tasks: Sequence[TrmTask]) -> None:
    """Raise DataError for a test input without an answer outside the test subset: training would use [[0]] as answer.

    The reference builder writes [[0]] in that case.
    """
    for task in tasks:
        for number, pair in enumerate(task.unanswered, start=1):
            if pair:
                raise DataError(
                    f"{source}: task {task.task_id!r} of {subset!r}, test input {number}, has no answer to train on",
                    f"write --test {subset}, or leave the subset out with --subset",
                )


def count_splits(plan: TrmPlan) -> tuple[SplitCounts, ...]:
    """Return tasks, puzzles and rows of each split."""
    return tuple(
        SplitCounts(
            split,
            num_tasks=len(groups),
            num_puzzles=sum(len(group.dihedral) for group in groups),
            num_rows=sum(len(group.offsets) for group in groups),
        )
        for split, groups in plan.splits.items()
    )
