"""Read-only connection that is kept between pages, and given up as soon as another process wants the ledger.

Opening a ledger takes some 40 ms of CPU time, more than most pages. DuckDB lets one process write or many read, so a
kept connection would keep writers out: a thread looks every WATCH_S whether one waits, and closes it then.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from gridloom.stores.connect import HeldLock
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")
WATCH_S = 0.05
"""Time between looks for a process that waits, s."""
IDLE_S = 60.0
"""Time without a page after which the connection is closed, s: an attempt is read for less, and the next one would take
twice as long. Only a foreign program that opens the file for writing has to wait for it."""


class Memo:
    """Results that hold as long as nothing is recorded: the last MOST of them. Safe to use from several threads."""

    MOST = 256

    def __init__(self) -> None:
        self._found: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return what `make` returns for a key, computed once while the result is kept."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                kept: T = self._found[key]
                return kept
        made = make()
        with self._lock:
            self._found[key] = made
            while len(self._found) > self.MOST:
                self._found.popitem(last=False)
        return made

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._found.clear()


class _Kept:
    """Open ledger with the number of pages that use it."""

    def __init__(self, ledger: Ledger, version: str, before: _Kept | None) -> None:
        self.ledger, self.version = ledger, version
        self.stack = ExitStack()
        self.connection = self.stack.enter_context(ledger.reading())
        ((self.dead_runs,),) = self.connection.execute("SELECT getvariable('dead_runs')").fetchall()
        self.state = _state_of(ledger.workspace)
        is_same = before is not None and (before.version, before.state, before.dead_runs) == (
            version, self.state, self.dead_runs,
        )  # fmt: skip
        self.memo: Memo = before.memo if before is not None and is_same else Memo()
        """Results of queries that read much; those of the connection before where nothing was changed since."""
        self.users = 0
        self.retired = threading.Event()
        """Set when no further page may use it; it is closed after the last one."""
        self.used_at = time.monotonic()


def _state_of(workspace: Workspace) -> tuple[int, ...]:
    """Return what a change of the ledger's file changes: it is written by ingestion, and when runs are removed."""
    found: list[int] = []
    for path in (workspace.ledger_path, workspace.ledger_path.with_name(f"{workspace.ledger_path.name}.wal")):
        with suppress(OSError):
            about = path.stat()
            found += (about.st_ino, about.st_size, about.st_mtime_ns)
    return tuple(found)


class HeldLedger:
    """Ledger whose connection is shared by pages that follow one another while nothing new is recorded.

    Args:
        make: function that makes a reader of the ledger.
        version: function that returns a text which changes with every record.
    """

    def __init__(self, make: Callable[[], Ledger], version: Callable[[], str]) -> None:
        self._make, self._version = make, version
        self._kept: _Kept | None = None
        self._last: _Kept | None = None
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()

    @contextmanager
    def cursor(self) -> Iterator[tuple[duckdb.DuckDBPyConnection, tuple[str, ...], Memo]]:
        """Yield a connection of its own to the up-to-date ledger, the ledger's warnings, and the memo of results.

        Raises StoreError.
        """
        with self._lock:
            kept = self._current()
            kept.users += 1
        try:
            with kept.connection.cursor() as cursor:
                cursor.execute("SET VARIABLE dead_runs = ?", [kept.dead_runs])
                yield cursor, tuple(kept.ledger.warnings), kept.memo
        finally:
            with self._lock:
                kept.users -= 1
                kept.used_at = time.monotonic()
                self._close_if_unused(kept)

    def close(self) -> None:
        """Close the connection as soon as no page uses it, and end the thread that watches."""
        with self._lock:
            watcher = self._watcher
            if self._kept is not None:
                self._retire(self._kept)
        if watcher is not None:
            watcher.join()

    def _current(self) -> _Kept:
        version = self._version()
        if self._kept is not None and self._kept.version != version:
            self._retire(self._kept)
        if self._kept is None:
            self._kept = self._last = _Kept(self._make(), version, self._last)
            self._watcher = threading.Thread(target=self._watch, args=(self._kept,), daemon=True)
            self._watcher.start()
        return self._kept

    def _retire(self, kept: _Kept) -> None:
        kept.retired.set()
        if self._kept is kept:
            self._kept = None
        self._close_if_unused(kept)

    def _close_if_unused(self, kept: _Kept) -> None:
        if kept.retired.is_set() and kept.users == 0:
            kept.stack.close()

    def _watch(self, kept: _Kept) -> None:
        lock = HeldLock(kept.ledger.workspace.lock_path.with_name("ledger.queue"))
        while not kept.retired.wait(WATCH_S):
            with self._lock:
                if kept.retired.is_set():
                    return
                if lock.is_wanted() or (kept.users == 0 and time.monotonic() - kept.used_at > IDLE_S):
                    self._retire(kept)
                    return
