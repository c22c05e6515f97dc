"""Creation of folders that appear complete or not at all."""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.errors import DataError
from gridloom.stores.files import locks
from gridloom.stores.files.write_aside import move


def check_vacant(folder: Path) -> None:
    """Raise DataError unless `folder` does not exist or is an empty directory."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()) or (folder.is_dir() and any(folder.iterdir())):
        raise DataError(f"{folder} exists already", "remove it or name another folder; nothing is overwritten")


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside `folder` to fill, renamed to `folder` after success. Raises DataError.

    What a killed process left of the same folder is removed first; what a living one fills is not touched.
    """
    check_vacant(folder)
    folder = folder.absolute()
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    held: int | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # others that begin here wait, so none sees a folder that was made and is not locked yet
        gate = locks.hold_folder(folder.parent, timeout_s=None)
        try:
            _remove_abandoned(folder)
            aside.mkdir()
            held = locks.hold_folder(aside)
        finally:
            _release(gate)
        yield aside
        check_vacant(folder)
        move(aside, folder)
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written: {problem.strerror}", "free space or check the rights") from None
    finally:
        _release(held)
        shutil.rmtree(aside, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    for rest in folder.parent.glob(f".{glob.escape(folder.name)}.*.partial"):
        held = locks.hold_folder(rest)
        if held is not None:
            shutil.rmtree(rest, ignore_errors=True)
            _release(held)


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
