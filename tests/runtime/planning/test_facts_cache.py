"""Facts are read once, and again as soon as anything they were read from has changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gridloom.errors import DataError
from gridloom.runtime.planning import facts_cache
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.data import ArcData

HEAVY = ("torch", "numpy", "numba", "duckdb", "transformers", "langgraph")
SPEC = ArcData(source="./tasks", subsets=("tasks",), holdout=("tasks",))


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRIDLOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(facts_cache, "SETTLE_S", 0.0)
    folder = tmp_path / "tasks"
    folder.mkdir()
    _task(folder / "a.json", 1)
    return folder


def _task(path: Path, colour: int) -> None:
    pair = {"input": [[1, 2]], "output": [[2, colour]]}
    path.write_text(json.dumps({"train": [pair, pair], "test": [pair]}))


def _digest(folder: Path) -> str:
    return LocalFacts().data(SPEC, str(folder.parent)).digest


def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    from gridloom.runtime.data.arc import read as arc

    seen: list[str] = []
    real = arc.read_arc

    def counted(spec: ArcData, base: Path) -> arc.ArcSource:
        seen.append(spec.source)
        return real(spec, base)

    monkeypatch.setattr(arc, "read_arc", counted)
    return seen


def test_unchanged_files_are_read_once_and_give_equal_facts(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = _reads(monkeypatch)
    base = str(tasks.parent)
    first = (LocalFacts().data(SPEC, base), LocalFacts().task_keys(SPEC, base))
    num_reads = len(reads)
    assert (LocalFacts().data(SPEC, base), LocalFacts().task_keys(SPEC, base)) == first
    assert num_reads == 2
    assert len(reads) == num_reads


def test_an_edit_of_one_cell_is_noticed_at_the_same_size_and_time(tasks: Path) -> None:
    before, stat = _digest(tasks), (tasks / "a.json").stat()
    _task(tasks / "a.json", 3)
    os.utime(tasks / "a.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (tasks / "a.json").stat().st_size == stat.st_size
    assert _digest(tasks) != before


def test_added_and_removed_files_are_noticed(tasks: Path) -> None:
    before = _digest(tasks)
    _task(tasks / "b.json", 4)
    assert _digest(tasks) != before
    (tasks / "b.json").unlink()
    assert _digest(tasks) == before
    (tasks / "a.json").unlink()
    with pytest.raises(DataError):
        _digest(tasks)


def test_files_changed_a_moment_ago_are_read_each_time(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_cache, "SETTLE_S", 3600.0)
    reads = _reads(monkeypatch)
    _digest(tasks)
    _digest(tasks)
    assert len(reads) == 2


@pytest.mark.parametrize(
    "module",
    [
        "compiler/facts.py",
        "runtime/data/tasks.py",
        "runtime/data/arc/read.py",
        "runtime/data/files/grids.py",
        "runtime/data/puzzles/puzzle_set.py",
        "runtime/data/sequences/tokens.py",
        "runtime/planning/facts.py",
        "specs/data.py",
    ],
)
def test_another_byte_in_a_module_that_decides_facts_has_them_read_anew(
    tasks: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tasks.parent / "gridloom"
    shutil.copytree(facts_cache.PACKAGE, code, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(facts_cache, "PACKAGE", code)
    reads = _reads(monkeypatch)
    _digest(tasks)
    _digest(tasks)
    assert len(reads) == 1
    with (code / module).open("a") as file:
        file.write("#")
    _digest(tasks)
    assert len(reads) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"entry": {}, "sum": "x"}', '{"entry": 1}', "\x00\xff"])
def test_a_damaged_entry_is_read_anew(tasks: Path, text: str) -> None:
    before = _digest(tasks)
    (entry,) = (tasks.parent / "cache" / "facts").glob("*.json")
    entry.write_text(text)
    assert _digest(tasks) == before


def test_an_entry_with_another_answer_is_not_believed(tasks: Path) -> None:
    before = _digest(tasks)
    (entry,) = (tasks.parent / "cache" / "facts").glob("*.json")
    entry.write_text(entry.read_text().replace(before, "0" * len(before)))
    assert _digest(tasks) == before


def test_a_cache_that_cannot_be_written_costs_only_time(tasks: Path) -> None:
    (tasks.parent / "cache").write_text("a file where the folder should be")
    assert _digest(tasks) == _digest(tasks)


def test_a_file_of_a_pair_and_a_csv_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts_cache, "SETTLE_S", 0.0)
    for name in ("x_challenges.json", "x_solutions.json"):
        (tmp_path / name).write_text("{}")
    spec = ArcData(source="./x_", subsets=("x",), holdout=())
    before = facts_cache.source_identity(spec, tmp_path)
    assert before is not None
    assert len(before) == 2
    (tmp_path / "x_solutions.json").write_text("{ }")
    assert facts_cache.source_identity(spec, tmp_path) != before


def test_a_warm_compile_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from gridloom.cli.main import make_app\n"
        "make_app('compile')(['compile', 'quickstart'], standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    env = {**os.environ, "GRIDLOOM_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=env, check=True, capture_output=True, cwd=tmp_path)
    warm = subprocess.run(command, env=env, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert warm.stdout.splitlines()[-1] == "[]"
