"""Writing aside and renaming: a file or folder appears under its name whole, or not at all.

The content is written under another name in the same folder, so on the same file system, where a rename is one step. A
process killed on the way leaves the old content, and at most something under the other name. A link at the target is
replaced itself, not what it points to. No other module renames files.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gridloom.stores.disk import sync_folder


@contextmanager
def replacing(path: Path, *, aside: Path | None = None) -> Iterator[Path]:
    """Give a name beside `path` to write a file under; it replaces `path` when the body ends, and else is removed.

    Not durable: see `write_durably`. Raises OSError.

    Args:
        aside: the name; by default `.NAME.PID`, so that two processes do not write one file.
    """
    aside = aside or path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong first is what the caller should hear of
            aside.unlink()
        raise


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step: a crash leaves the old file or the new one. Raises OSError."""
    with replacing(path) as aside, aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


@contextmanager
def empty_folder(aside: Path) -> Iterator[Path]:
    """Make an empty folder to fill and `move`; what is not moved away is removed at the end. Raises OSError.

    What an earlier process left under the same name is removed first.
    """
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def move(aside: Path, target: Path, *, replace: bool = False, durable: bool = False) -> None:
    """Rename the file or folder `aside` to `target`, in one step.

    A file replaces a file, and a folder an empty folder.

    Args:
        replace: a folder at `target` that holds something is removed first; a crash between the two steps leaves none.
        durable: the new name survives the death of the machine. The content must be synced before: see `sync_files`.

    Raises:
        FileExistsError: `target` is a folder that holds something.
        OSError: any other refusal of the file system.
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
    """Make the files that lie in `folder`, and their names, durable. Raises OSError."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)
