"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.errors import DataError


def check_vacant(folder: Path) -> None:
    """Raise DataError unless `folder` does not exist or is an empty directory."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        raise DataError(f"{folder} exists already", "remove it or name another folder; nothing is overwritten")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder` to write in, and rename it when all went well. Raises DataError."""
    check_vacant(folder)
    folder = folder.absolute()
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        aside.mkdir(parents=True)
        yield aside
        check_vacant(folder)
        aside.rename(folder)
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written: {problem.strerror}", "free space or check the rights") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
