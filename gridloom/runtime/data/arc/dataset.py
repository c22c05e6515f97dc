"""Dataset artifact: `tasks.json` and `meta.json`, without held-out answers. This module never reads answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from gridloom.errors import DataError
from gridloom.runtime.data.arc.read import ArcSource
from gridloom.runtime.data.files.formats import FORMAT_VERSION, check_format, write_json
from gridloom.runtime.data.files.grids import GridLocation, read_grid
from gridloom.runtime.data.files.json_files import load_json, loads_with_packed_grids, read_bytes
from gridloom.runtime.data.tasks import Grid, Pair, Task, tasks_digest
from gridloom.specs.data import ArcData, Augment, Curriculum

_TASKS, _META = "tasks.json", "meta.json"


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Tasks as training and solving read them."""

    tasks: tuple[Task, ...]
    canvas: int
    """Side of the token canvas in cells."""
    digest: str
    augment: Augment
    version: str
    """`arcagi aa922be`, `folder 1a2b3c4`, ..."""
    curriculum: Curriculum | None = None
    canvases: tuple[int, ...] = ()
    """Sides of smaller canvases, in cells."""
    packed: bool = False
    """Whether rows are rectangles of their own size (`row_shapes`), on a corner of the canvas."""

    @classmethod
    def of(cls, source: ArcSource, spec: ArcData) -> Self:
        """Return the dataset of tasks that were read for a data entry."""
        return cls(
            source.tasks,
            source.canvas,
            source.digest,
            spec.augment,
            source.version,
            spec.curriculum,
            spec.canvases,
            spec.rows == "packed",
        )

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides of the canvases in use, ascending; `fitting_canvas` selects one for each task."""
        return (*sorted({side for side in self.canvases if side < self.canvas}), self.canvas)

    def task(self, task_id: str) -> Task:
        """Return one task. Raises DataError for an unknown id."""
        for task in self.tasks:
            if task.task_id == task_id:
                return task
        raise DataError(f"no task {task_id!r} in this dataset", f"it has {len(self.tasks)} tasks")


def save_dataset(folder: Path, dataset: Dataset) -> None:
    """Write the dataset; equal datasets give equal bytes."""
    tasks = [
        {
            "id": task.task_id,
            "subset": task.subset,
            "demos": _pairs(task.demos),
            "tests": list(task.tests),
            "known": _pairs(task.known),
            "check": list(task.check),
        }
        for task in dataset.tasks
    ]
    meta = {
        "format_version": FORMAT_VERSION,
        "digest": dataset.digest,
        "version": dataset.version,
        "canvas": dataset.canvas,
        "augment": dataset.augment.model_dump(mode="json"),
        "curriculum": dataset.curriculum.model_dump(mode="json") if dataset.curriculum else None,
        "canvases": list(dataset.canvases),
        "num_tasks": len(tasks),
        **({"rows": "packed"} if dataset.packed else {}),
    }
    write_json(folder / _TASKS, tasks)
    write_json(folder / _META, meta)


def load_dataset(path: Path) -> Dataset:
    """Return the dataset in `path`. Raises DataError when a file is missing, damaged, or has a newer format."""
    meta = load_json(path / _META)
    check_format(path / _META, meta)
    raw = read_bytes(path / _TASKS)
    entries = loads_with_packed_grids(raw)
    if entries is None:
        entries = load_json(path / _TASKS)
    try:
        tasks = tuple(_task(str(path / _TASKS), entry) for entry in entries)
        dataset = Dataset(
            tasks=tasks,
            canvas=meta["canvas"],
            digest=meta["digest"],
            augment=Augment.model_validate(meta["augment"]),
            version=meta["version"],
            curriculum=Curriculum.model_validate(plan) if (plan := meta.get("curriculum")) else None,
            canvases=tuple(meta.get("canvases", ())),
            packed=meta.get("rows") == "packed",
        )
    except (KeyError, TypeError, ValidationError) as problem:
        raise DataError(f"{path}: not a dataset artifact ({problem!r})", "remove the artifact and run again") from None
    if tasks_digest(tasks) != dataset.digest:
        raise DataError(f"{path / _TASKS}: content does not match meta.json", "remove the artifact and run again")
    return dataset


def held_out_tasks(dataset: Dataset, name: str, split: str | None, limit: int | None) -> list[Task]:
    """Return the tasks with held-out tests of the split, by id. Raises DataError when there are none.

    Args:
        name: name of the dataset in messages.
        split: a subset; all held-out subsets when None.
    """
    held_out = sorted((task for task in dataset.tasks if task.tests), key=lambda task: task.task_id)
    subsets = sorted({task.subset for task in held_out})
    if split is not None and split not in subsets:
        raise DataError(
            f"no task of split '{split}' has a held-out test in {name}",
            f"held out here: {', '.join(subsets) or 'nothing'}; add the subset to `data.{name}.holdout`",
        )
    chosen = [task for task in held_out if split in (None, task.subset)][:limit]
    if not chosen:
        raise DataError(
            f"{name} holds out no test input, so there is nothing to answer", f"name a subset in `data.{name}.holdout`"
        )
    return chosen


def _pairs(pairs: Iterable[Pair]) -> list[dict[str, Grid]]:
    return [{"input": pair.input, "output": pair.output} for pair in pairs]


def _task(file: str, entry: dict[str, Any]) -> Task:
    def grid(value: Any, section: str, index: int, side: str) -> Grid:
        return read_grid(value, GridLocation(file, entry["id"], section, index, side))

    def pairs(name: str, section: str) -> tuple[Pair, ...]:
        return tuple(
            Pair(grid(pair["input"], section, i, "input"), grid(pair["output"], section, i, "output"))
            for i, pair in enumerate(entry[name])
        )

    return Task(
        task_id=entry["id"],
        subset=entry["subset"],
        demos=pairs("demos", "train"),
        tests=tuple(grid(value, "test", i, "input") for i, value in enumerate(entry["tests"])),
        known=pairs("known", "test"),
        check=tuple(entry["check"]),
    )
