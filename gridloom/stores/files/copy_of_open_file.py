"""Copy of a database file that another process has open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ATTEMPTS = 3
_COPY = "import shutil, sys; shutil.copyfile(sys.argv[1], sys.argv[2])"


def copy_unchanged(source: Path, target: Path, beside: tuple[str, ...] = ()) -> bool:
    """Copy a file and those of its companions that exist; return False where they changed meanwhile.

    A child process copies: closing the file here would free the locks that this process may hold on it (POSIX).

    Args:
        beside: suffixes of the companions, such as the write-ahead log's.

    Raises:
        OSError: a file cannot be read, or the disk of the target is full.
    """
    names = [*("", *beside)]
    for _ in range(ATTEMPTS):
        before = _states(source, names)
        for name in names:
            copied = target.with_name(target.name + name)
            copied.unlink(missing_ok=True)
            if before[name] is not None:
                _copy(source.with_name(source.name + name), copied)
        if _states(source, names) == before:
            return True
    return False


def _copy(source: Path, target: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", _COPY, str(source), str(target)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(0, (done.stderr.strip().splitlines() or ["the copy failed"])[-1])


def _states(source: Path, names: list[str]) -> dict[str, tuple[int, int] | None]:
    """Return size and time of the last change of each file."""
    found: dict[str, tuple[int, int] | None] = {}
    for name in names:
        try:
            status = source.with_name(source.name + name).stat()
        except FileNotFoundError:
            found[name] = None
        else:
            found[name] = status.st_size, status.st_mtime_ns
    return found
