"""Files that a user names: in a spec, on the command line, in the environment. The only place that opens them.

Whatever is wrong with a path is an OSError with a reason in `strerror`, which callers turn into their diagnostic.
`pathlib` alone raises ValueError for NUL, RuntimeError for an unknown user and UnicodeEncodeError for what no file
system can name, and opening a named pipe waits for its writer.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_TEXT_BYTES = 64 << 20
"""Largest accepted size of a text file in bytes; data files have a bound of their own."""
MAX_NAME, MAX_PATH = 255, 4095
"""Longest name and longest path in bytes on the usual file systems."""
_KINDS = (
    (stat.S_ISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, "it is a named pipe, not a file"),
    (stat.S_ISSOCK, "it is a socket, not a file"),
    (stat.S_ISCHR, "it is a device, not a file"),
    (stat.S_ISBLK, "it is a device, not a file"),
)


def named_path(text: str | os.PathLike[str], base: str | os.PathLike[str] = "") -> Path:
    """Return the path that `text` names, `~` expanded, relative to the folder `base`.

    `..`, links and absolute paths lead where they lead. Raises OSError for a text that can be no path.
    """
    name = os.fspath(text)
    if "\0" in name:
        raise OSError(errno.EINVAL, "a path holds no NUL character", name)
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "no file can have such a name", name) from None
    if any(len(part) > MAX_NAME for part in raw.split(b"/")) or len(raw) > MAX_PATH:
        reason = f"a name in a path has at most {MAX_NAME} bytes, a path {MAX_PATH:,}"
        raise OSError(errno.ENAMETOOLONG, reason, name)
    path = Path(name)
    if name.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:
            user = path.parts[0]
            reason = f"no home folder of {user} is known here; a file called {user} is named ./{user}"
            raise OSError(errno.ENOENT, reason, name) from None
    return Path(base) / path


def is_file(path: Path) -> bool:
    """Return whether a path leads to a regular file; False for a path that cannot be looked at."""
    return _is(path, stat.S_ISREG)


def is_folder(path: Path) -> bool:
    """Return whether a path leads to a folder; False for a path that cannot be looked at."""
    return _is(path, stat.S_ISDIR)


def exists(path: Path) -> bool:
    """Return whether a path leads to anything; False for a path that cannot be looked at."""
    return _is(path, lambda mode: True)


def _is(path: Path, is_kind: Callable[[int], bool]) -> bool:
    try:
        return is_kind(path.stat().st_mode)
    except (OSError, ValueError):  # pathlib's own tests let some errors pass, such as that of a long name
        return False


def check_regular(path: Path) -> os.stat_result:
    """Return the status of a regular file, links followed. Raises OSError for anything else, without opening it."""
    try:
        found = path.stat()
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if not stat.S_ISREG(found.st_mode):
        reason = next((text for is_kind, text in _KINDS if is_kind(found.st_mode)), "it is no regular file")
        code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(code, reason, str(path))
    return found


def read_bytes(path: Path, limit: int = MAX_TEXT_BYTES) -> bytes:
    """Return the bytes of a regular file. Raises OSError, EFBIG for more than `limit` bytes."""
    check_regular(path)
    # whoever exchanges the file for a pipe after the check finds a reader that does not wait
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"{found.st_size:,} bytes, more than {limit:,}", str(path))
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, f"more than {limit:,} bytes", str(path))
    return raw


def read_text(path: Path, limit: int = MAX_TEXT_BYTES) -> str:
    """Return the text of a UTF-8 file without its byte order mark. Raises OSError as `read_bytes`, EILSEQ else."""
    raw = read_bytes(path, limit)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} (0x{raw[error.start]:02x}) is not UTF-8"
        raise OSError(errno.EILSEQ, reason, str(path)) from None


def read_json(path: Path, limit: int = MAX_TEXT_BYTES) -> Any:
    """Return the value in a JSON file. Raises OSError as `read_text`, and ValueError for what is not JSON."""
    text = read_text(path, limit)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
