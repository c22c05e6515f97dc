"""File locks between processes (flock): acquisition, tests, and the ids of the holders.

A lock belongs to the open file that it was taken through. The kernel frees it when the descriptor is closed, at the
latest when the process dies, so a killed process leaves no stale lock. No other module calls flock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

POLL_S = 0.01
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
"""Errors of a lock that another open file holds; EACCES where the file system emulates flock by byte ranges."""


def take(descriptor: int, *, shared: bool = False, timeout_s: float | None = 0) -> bool:
    """Lock an open file until `descriptor` is closed; return False when the lock was held until the time-out.

    Args:
        shared: whether the lock is shared with other shared holders; else it is exclusive.
        timeout_s: time to wait for holders, s; 0 tries once, None waits without limit.

    Raises:
        OSError: the file system has no locks.
    """
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if timeout_s is None:
        fcntl.flock(descriptor, mode)
        return True
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                raise
        else:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)


def create_held(path: Path) -> int:
    """Create a file that this process holds; return the descriptor, open for appending. Raises OSError if it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        take(descriptor, timeout_s=None)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hold_folder(folder: Path, *, timeout_s: float | None = 0) -> int | None:
    """Lock a folder; return the descriptor that holds it until closed, or None.

    None where another process holds it, or the file system has no locks. Raises OSError when it cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if take(descriptor, timeout_s=timeout_s):
            return descriptor
    except OSError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def is_held(path: Path) -> bool:
    """Return whether an open file holds `path` exclusively, in this process or another. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return not take(descriptor, shared=True)
    finally:
        os.close(descriptor)


def holders(descriptor: int) -> list[str]:
    """Return the ids of the processes that hold a lock on the open file, where the system lists them (Linux)."""
    inode = f":{os.fstat(descriptor).st_ino}"
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    entries = [line.split() for line in lines]  # 1: FLOCK ADVISORY WRITE 4711 fd:00:131072 0 EOF
    return sorted({e[4] for e in entries if len(e) > 5 and e[1] == "FLOCK" and e[5].endswith(inode)})
