"""Opening of the ledger's DuckDB file: a lock between gridloom processes, a wait for foreign ones, error messages."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridloom.errors import StoreError
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage
from gridloom.wording import first_line

if TYPE_CHECKING:
    import duckdb

STORAGE_VERSION = "v1.5.0"
"""Oldest DuckDB storage version that can open a ledger."""
POLL_S = 0.01
_FULL = ("No space left", "File too large", "Disk quota exceeded")
"""Texts in DuckDB's errors when the disk, the file size limit or the quota is exhausted."""


def _open_lock(path: Path, exclusive: bool) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if exclusive or error.errno not in (errno.EACCES, errno.EROFS) or not path.exists():
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a reader of someone else's workspace


class LedgerBusy(StoreError):
    """A ledger that another process uses: its journals can still be written, and are ingested later."""


@dataclass(frozen=True, slots=True)
class HeldLock:
    """Lock that this process holds."""

    queue: Path

    def is_wanted(self) -> bool:
        """Return whether another process waits for the lock."""
        try:
            descriptor = os.open(self.queue, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not locks.take(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def ledger_lock(path: Path, *, exclusive: bool, timeout_s: float) -> Iterator[HeldLock]:
    """Hold the lock file `path`: exclusively to change the ledger, shared to read it. Not reentrant.

    The lock is fair: whoever waits for it holds a second file, the queue, and all who come later wait for the queue, so
    that readers who come and go cannot keep a writer out for ever.

    Raises LedgerBusy that names the holder when the lock cannot be had within `timeout_s`; OSError when the file
    cannot be made.
    """
    queue, deadline = path.with_name("ledger.queue"), time.monotonic() + timeout_s
    fd = _open_lock(path, exclusive)
    try:
        turn = -1
        with nullcontext() if exclusive else suppress(OSError):  # a reader of someone else's workspace without the file
            turn = _open_lock(queue, exclusive)
        try:
            taken = turn < 0 or locks.take(turn, timeout_s=timeout_s)
            if not taken or not locks.take(fd, shared=not exclusive, timeout_s=max(0.0, deadline - time.monotonic())):
                holders = locks.holders(fd)
                who = f": process {', '.join(holders)} uses it" if holders else ""
                raise LedgerBusy(
                    f"the ledger in {path.parent} is busy{who} (waited {timeout_s:g} s)",
                    "wait for the other gridloom command, or stop it, then try again",
                )
        finally:
            if turn >= 0:
                os.close(turn)
        yield HeldLock(queue)
    finally:
        os.close(fd)


def open_database(
    path: Path, *, read_only: bool, timeout_s: float, settings: Mapping[str, str] | None = None
) -> duckdb.DuckDBPyConnection:
    """Open the DuckDB file, waiting up to `timeout_s` for a foreign process that holds it.

    Args:
        settings: further settings of DuckDB, such as `memory_limit`; they cannot be changed afterwards.

    Raises StoreError: LedgerBusy where it is still held.
    """
    import duckdb

    config: dict[str, str | bool | int | float | list[str]] = {"python_enable_replacements": "false"}
    config |= settings or {}
    if read_only:
        # at opening, since connections of one process share an instance and only the first may still set them
        config |= {"enable_external_access": "false", "lock_configuration": "true"}
    else:
        config["storage_compatibility_version"] = STORAGE_VERSION
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with storage("open the ledger", path.parent):
                return duckdb.connect(str(path), read_only=read_only, config=config)
        except (duckdb.IOException, duckdb.ConnectionException) as error:
            text = str(error)
            busy = "Could not set lock" in text or "different configuration" in text
            if busy and time.monotonic() < deadline:
                time.sleep(POLL_S)
                continue
            raise _open_error(path, text, busy=busy, waited_s=timeout_s) from error
        except duckdb.Error as error:
            raise _open_error(path, str(error), busy=False, waited_s=timeout_s) from error


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Apply the body's statements together or not at all."""
    import duckdb

    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has ended the transaction
            connection.execute("ROLLBACK")
        raise


def is_of_the_file(error: Exception) -> bool:
    """Return whether an error of DuckDB comes from the file, the disk or the memory, and not from a statement."""
    import duckdb

    damaged = duckdb.IOException | duckdb.FatalException | duckdb.InternalException | duckdb.SerializationException
    # a block whose checksum is wrong, found where a query reads it, is an error of no class of its own
    return isinstance(error, damaged) or any(message in str(error) for message in (*_FULL, "Corrupt database file"))


@contextmanager
def encodable() -> Iterator[None]:
    """Convert DuckDB's error about a parameter that is not UTF-8, as an argument can be, to a StoreError."""
    import duckdb

    try:
        yield
    except duckdb.InvalidInputException as error:
        if "surrogate" not in str(error):
            raise
        raise StoreError("a name in the question holds bytes that are not UTF-8", "type it in UTF-8") from error


@contextmanager
def database_errors(doing: str, path: Path) -> Iterator[None]:
    """Convert DuckDB's errors of file, disk and memory to a StoreError that names the file and the remedy.

    Other errors are bugs and are raised unchanged. A query that Ctrl-C ended is a KeyboardInterrupt.
    """
    import duckdb

    try:
        yield
    except duckdb.InterruptException as error:
        raise KeyboardInterrupt from error
    except duckdb.OutOfMemoryException as error:
        raise StoreError(
            f"cannot {doing} {path}: {first_line(error)}",
            "free some memory, or ask for fewer rows and columns, then try again",
        ) from error
    except duckdb.Error as error:
        if not is_of_the_file(error):
            raise
        full = any(message in str(error) for message in _FULL)
        raise StoreError(
            f"cannot {doing} {path}: {first_line(error)}",
            f"free some space in {path.parent}, then try again: the journals hold what was recorded"
            if full
            else "try again; if it persists, " + _move_away(path),
        ) from error
    except RuntimeError as error:
        if "interrupt" not in str(error).lower():
            raise
        raise KeyboardInterrupt from error


def _move_away(path: Path) -> str:
    return (
        f"move it away (mv {path.name} {path.name}.damaged, in {path.parent}): "
        "the next command rebuilds it from the journals"
    )


def _open_error(path: Path, text: str, *, busy: bool, waited_s: float) -> StoreError:
    if busy:
        holder = re.search(r"held in (.*?) \(PID (\d+)\)", text)
        who = f"process {holder[2]} ({holder[1]})" if holder else "another connection of this process"
        return LedgerBusy(
            f"{path} is held by {who} (waited {waited_s:g} s)",
            "close the program that has it open; DuckDB lets one program write or many read",
        )
    reason = (text.strip().splitlines() or ["no reason was given"])[0]
    if "newer version" in text or "storage version" in text.lower() or "version number" in text:
        return StoreError(f"{path} needs a newer DuckDB: {reason}", "pip install --upgrade duckdb")
    if any(message in text for message in _FULL):
        return StoreError(
            f"cannot open {path}: {reason}",
            f"free some space in {path.parent}, then try again: the journals hold what was recorded",
        )
    # a file without rights is undamaged, and moved away it would be lost where its journals were removed
    no_rights = "Permission denied" in text
    remedy = "make it readable and writable for this user" if no_rights else _move_away(path)
    return StoreError(f"{path} cannot be opened: {reason}", remedy)
