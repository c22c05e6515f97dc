"""Messages and remedies for OSErrors of the disk, durable names of files, and their digests."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.errors import StoreError

_ELSEWHERE = "or set GRIDLOOM_HOME to a folder on another disk; then run again"
_WRITABLE = "make the folder writable, or set GRIDLOOM_HOME to one that is"
_BACK = "mount the disk again, or put the folder back, then run again: what was recorded is kept"
_MEANINGS = {
    errno.ENOSPC: ("no space left", f"free some space there, {_ELSEWHERE}"),
    errno.EDQUOT: ("the disk quota is used up", f"free some space there, {_ELSEWHERE}"),
    errno.EFBIG: ("the file size limit is reached", f"raise the limit (ulimit -f), {_ELSEWHERE}"),
    errno.EROFS: ("the file system is read-only", "set GRIDLOOM_HOME to a folder that can be written"),
    errno.EACCES: ("permission denied", _WRITABLE),
    errno.EPERM: ("operation not permitted", _WRITABLE),
    errno.ENOTDIR: ("a file stands where a folder is needed", "move that file away, or set GRIDLOOM_HOME elsewhere"),
    errno.EEXIST: ("a file stands where a folder is needed", "move that file away, or set GRIDLOOM_HOME elsewhere"),
    errno.EISDIR: ("a folder stands where a file is needed", "move that folder away, or set GRIDLOOM_HOME elsewhere"),
    errno.ELOOP: ("links form a cycle", "remove the links, or set GRIDLOOM_HOME elsewhere"),
    errno.ENAMETOOLONG: ("the name is too long", "set GRIDLOOM_HOME to a folder with a shorter name"),
    errno.ENOENT: ("the folder or a file in it is gone", _BACK),
    errno.ESTALE: ("the share no longer knows the file", _BACK),
    errno.ENOTCONN: ("the share is not connected", _BACK),
    errno.EHOSTDOWN: ("the host of the share does not answer", _BACK),
    errno.EIO: ("the disk reports an error", f"check the disk, {_ELSEWHERE}"),
}


def storage_error(error: OSError, doing: str, folder: Path) -> StoreError:
    """Return the StoreError with the failed action, the folder, the reason and the remedy."""
    meaning, remedy = _MEANINGS.get(
        error.errno or 0, (error.strerror or str(error), "check the folder, or set GRIDLOOM_HOME to another one")
    )
    at = f" ({error.filename})" if error.filename and str(error.filename) != str(folder) else ""
    return StoreError(f"cannot {doing} in {folder}: {meaning}{at}", remedy)


@contextmanager
def storage(doing: str, folder: Path) -> Iterator[None]:
    """Convert an OSError of the block to the StoreError of `storage_error`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing, folder) from error


def is_writable(path: Path) -> bool:
    """Return whether this process may write `path`: with its effective user, on a file system that is not read-only."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def sync_folder(folder: Path) -> None:
    """Sync `folder`, so that the names in it are durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sha256_of(path: Path, *, sync: bool = False) -> str:
    """Return the sha256 of a file's content in hexadecimal digits; with `sync` the content is durable after it.

    Raises OSError.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        if sync:
            os.fsync(file.fileno())
    return digest
