"""Journals that come in messages: written into the workspace of the driver, byte for byte, under the same names."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from gridloom.errors import StageError
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage
from gridloom.stores.workspace import Workspace

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]+-\w+-[0-9]+-[0-9a-f]{8}\.jsonl")
"""Name of a journal; nothing else is written."""


class Shipped:
    """Journals of workers of other nodes. Each is locked like one of this machine's: its writer counts as alive."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._open: dict[str, int] = {}
        self._size: dict[str, int] = {}

    def add(self, name: str, at: int, part: bytes) -> None:
        """Append a part that begins at byte `at` of a journal; bytes that are there already are skipped.

        Raises StageError for a name that is no journal's, or a gap; StoreError when the disk refuses.
        """
        if not _NAME.fullmatch(name):
            raise StageError(f"a worker ships {name!r}, which is no name of a journal", "install the same gridloom")
        folder = self.workspace.ensure(self.workspace.journal_dir)
        with storage("keep a worker's journal", folder):
            if name not in self._open:
                self._open[name], self._size[name] = locks.create_held(folder / name), 0
            size = self._size[name]
            if at > size:
                raise StageError(f"bytes {size} to {at} of the journal {name} are missing", "run again: it resumes")
            rest = memoryview(part)[size - at :]
            while rest:
                count = os.write(self._open[name], rest)
                self._size[name] += count
                rest = rest[count:]

    def sync(self) -> None:
        """Sync all journals, so that they survive a power failure."""
        with storage("keep a worker's journal", self.workspace.journal_dir):
            for descriptor in self._open.values():
                os.fsync(descriptor)

    def close(self) -> None:
        """Sync and release the journals."""
        with suppress(OSError):
            for descriptor in self._open.values():
                os.fsync(descriptor)
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def paths(self) -> list[Path]:
        """Return the files of the journals."""
        return [self.workspace.journal_dir / name for name in self._open]
