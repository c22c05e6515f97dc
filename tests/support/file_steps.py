"""File operations of a process in a folder, in order, by name; the process can be killed before one of them."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class FileSteps:
    """Watch over this process: collects `steps`, and sends SIGKILL before the step number `kill_at`.

    Seen are files opened for writing, folders made, renames, removals, syncs and the lines of journals; what DuckDB
    does by itself is not. There is no way back: for a forked child.
    """

    def __init__(self, root: Path, kill_at: int | None = None) -> None:
        self.steps: list[str] = []
        self._root = str(root)
        self._kill_at = kill_at
        sys.addaudithook(self._audit)
        for name in ("write", "pwrite", "fsync", "ftruncate"):
            setattr(os, name, self._watched(name, getattr(os, name)))

    def _step(self, what: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # signs of life come when they come
        if len(self.steps) == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.steps.append(what)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            return
        if not isinstance(args[0], str | os.PathLike):
            return
        path = os.fspath(args[0])
        if event in ("os.remove", "os.rmdir") and args[1] != -1:  # relative to an open folder, as rmtree does it
            path = f"{_opened(args[1])}/{path}"
        if not path.startswith(self._root):
            return
        if event == "open":
            if not args[2] & _WRITES:
                return
            self._step(f"open {self._named(path)}")
        elif event == "os.rename":
            self._step(f"rename {self._named(path)} to {self._named(args[1])}")
        else:
            self._step(f"{event.removeprefix('os.')} {self._named(path)}")

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(descriptor: int, *args: Any) -> Any:
            path = _opened(descriptor)
            if path.startswith(self._root):
                line = _journal_line(args[0]) if name == "write" else ""
                self._step(f"{name} {line or self._named(path)}")
            return call(descriptor, *args)

        return watched

    def _named(self, path: str | os.PathLike[str]) -> str:
        """Return a path in the folder without what differs from run to run: process ids, times, random names."""
        text = os.fspath(path).removeprefix(self._root).lstrip("/")
        text = re.sub(r"journal/[^/]+\.jsonl", "journal/*", text)
        text = re.sub(r"run-[-0-9A-Za-z]+\.lock", "run.lock", text)
        text = re.sub(r"\.[0-9]+\.[0-9a-f]{8}", ".*", text)
        return re.sub(r"\.[0-9]+(\.|$)", r".*\1", text)


def _opened(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _journal_line(data: bytes) -> str:
    if len(data) < 10 or data[8:9] != b" ":
        return ""
    payload = json.loads(data[9:])
    if "h" in payload:
        return "header"
    return ", ".join(f"{one['t']} {one['r'].get('status', '')}".strip() for one in payload["r"])
