"""Atomic replacement by renaming: a file or folder appears under its name complete, or not at all.

The content is written under a temporary name in the same folder, so on the same file system, where a rename is atomic.
A process killed before the rename leaves the old content, and possibly the temporary file. A link at the target is
replaced itself, not the file that it points to. No other module renames files.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridloom.stores.files.disk import sync_folder


@contextmanager
def replacing(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; its file replaces `path` after the block, and is removed on an error.

    Not durable: see `write_durably`. Raises OSError.

    Args:
        aside: temporary path; by default `.NAME.PID`, so that two processes do not write one file.
    """
    aside = aside or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):  # the caller must get the first error
            aside.unlink()
        raise


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically: a crash leaves the old file or the new one. Raises OSError."""
    with replacing(path) as aside, aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def plain_mode(folder: Path) -> int:
    """Return the mode of a file that is newly made in `folder`, as the umask rules. Raises OSError."""
    probe = folder / f".mode.{os.getpid()}"
    try:
        with probe.open("xb") as file:
            return os.fstat(file.fileno()).st_mode & 0o777
    finally:
        probe.unlink(missing_ok=True)


@contextmanager
def empty_folder(aside: Path) -> Iterator[Path]:
    """Create an empty folder to fill and `move`; a folder that was not moved is removed at the end. Raises OSError.

    A folder of an earlier process with the same name is removed first.
    """
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def move(aside: Path, target: Path, *, replace: bool = False, durable: bool = False) -> None:
    """Rename the file or folder `aside` to `target` atomically.

    A file replaces a file, and a folder an empty folder.

    Args:
        replace: whether a non-empty folder at `target` is removed first; a crash between the two steps leaves none.
        durable: whether the new name survives a power failure. The content must be synced before: see `sync_files`.

    Raises:
        FileExistsError: `target` is a non-empty folder.
        OSError: any other error of the file system.
    """
    if replace and target.exists():
        shutil.rmtree(target)
    try:
        aside.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise FileExistsError(error.errno, error.strerror, error.filename, None, error.filename2) from None
    if durable:
        sync_folder(target.parent)


def sync_files(folder: Path) -> None:
    """Sync the files of `folder` and their names. Raises OSError."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
