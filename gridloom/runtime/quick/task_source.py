"""Tasks that `gridloom solve` is given instead of a spec: a task file, a folder of them, files of challenges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gridloom import user_files
from gridloom.compiler.text.write import override_text
from gridloom.errors import DataError, GridloomError
from gridloom.runtime.data.arc.sources import TaskSource, holds_tasks, open_source
from gridloom.runtime.planning.local import RECIPE, compile_local, is_task_file, task_overrides
from gridloom.wording import near_and_known

MANY = "solve-search"
"""Recipe for several tasks: a search of programs, which needs no weights and no learning."""


class SourceSpec(NamedTuple):
    """Recipe that solves the tasks of a source, and what it is changed by."""

    recipe: str
    overrides: tuple[str, ...]


def is_task_source(spec: str) -> bool:
    """Return whether an argument names tasks rather than a spec: FILE.json, FILE.jsonl, a folder."""
    return is_task_file(spec) or spec.endswith(".jsonl") or user_files.is_folder(Path(spec))


def source_spec(source: str, recipe: str | None, budget: str | None, split: str | None) -> SourceSpec:
    """Return the recipe that solves tasks, with overrides that put them in the place of its data.

    One task file is learnt first, within the budget (`solve-task`). Several tasks are answered by programs
    (`solve-search`) unless a budget to learn them is given. Where not every test has an answer nothing is scored.

    Args:
        recipe: recipe or spec file with one `arc` entry of data, in place of these two.
        split: only this subset of the source.

    Raises:
        DataError: the source is missing, holds no tasks, or has no such subset.
        GridloomError: the recipe has no single place for tasks.
    """
    many = source.endswith("challenges.json") or (is_task_file(source) and holds_tasks(Path(source)))
    if recipe is None and is_task_file(source) and not many:
        return SourceSpec(RECIPE, tuple(task_overrides(source, budget)))
    path = source if Path(source).is_absolute() else f"./{Path(source)}"
    opened = open_source(str(Path(source).absolute()), Path())
    if split is not None and split not in opened.subsets:
        raise DataError(f"{source} has no subset {split!r}", near_and_known(split, opened.subsets))
    subsets = (split,) if split is not None else opened.subsets
    chosen = recipe or (RECIPE if budget is not None else MANY)
    spec = compile_local(chosen).spec
    entries = [name for name, one in spec.data.items() if one.kind == "arc"]
    if len(entries) != 1:
        raise GridloomError(
            f"{chosen} has {len(entries)} entries of ARC tasks, so there is no one place for {source}",
            "name a recipe with one, such as solve-search, or write a spec with this source",
        )
    place = f"data.{entries[0]}"
    found = [
        override_text(f"{place}.source", path),
        override_text(f"{place}.subsets", list(subsets)),
        override_text(f"{place}.holdout", list(subsets)),
        # a selection of the recipe is of its own tasks
        *([f"{place}.select=null"] if "select" in spec.data[entries[0]].model_fields_set else []),
    ]
    if budget is not None:
        if "budget" not in spec.vars:
            raise GridloomError(f"{chosen} has no budget to learn tasks in", "leave --budget or --recipe out")
        found.append(f"vars.budget={budget}")
    if not _has_answers(opened, subsets):
        found += [f"stages.{name}=null" for name, stage in spec.stages.items() if stage.kind in ("score", "ablate")]
    return SourceSpec(chosen, tuple(found))


def _has_answers(opened: TaskSource, subsets: Sequence[str]) -> bool:
    """Return whether every test has an output; True for a damaged task, which the compiler reports."""
    try:
        for name in subsets:
            subset = opened.subset(name)
            for task_id in subset.files:
                if not all("output" in pair for pair in subset.load(task_id)["test"]):
                    return False
    except (DataError, KeyError, TypeError):
        return True
    return True
