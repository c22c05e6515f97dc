"""Exclusion between runs, which read artifacts for as long as they last, and the removal of artifacts.

Every run holds `locks/artifacts.gate` shared, a removal exclusively: neither begins while the other goes on. A lock
file of one run alone would not do, since a run may begin between a look at all of them and the removal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gridloom.errors import StoreError
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage
from gridloom.stores.workspace import Workspace
from gridloom.wording import listed

WAIT_S = 60.0
"""Time that a run waits for a removal, s; a removal takes no longer than deleting files does."""


@contextmanager
def using_artifacts(workspace: Workspace, timeout_s: float = WAIT_S) -> Iterator[None]:
    """Keep the artifacts of a workspace from being removed. Raises StoreError where a removal takes longer."""
    with _gate(workspace) as (gate, path):
        with storage("take a lock", path.parent):
            free = locks.take(gate, shared=True, timeout_s=timeout_s)
        if not free:
            raise StoreError(
                f"artifacts of {workspace.root} are being removed (waited {timeout_s:g} s)", "try again when it is done"
            )
        yield


@contextmanager
def removing_artifacts(workspace: Workspace) -> Iterator[None]:
    """Keep runs and other removals from beginning in a workspace. Raises StoreError where one is going on."""
    with _gate(workspace) as (gate, path):
        with storage("take a lock", path.parent):
            free = locks.take(gate)
            beside_removal = not free and not locks.take(gate, shared=True)  # runs hold it shared
        if beside_removal:
            who = f" by process {', '.join(found)}" if (found := locks.holders(gate)) else ""
            raise StoreError(f"artifacts of {workspace.root} are being removed{who}", "try again when it is done")
        held = _held(path.parent)  # a run of an earlier version holds its own lock alone
        if not free or held:
            named = f" ({listed(held, 2)})" if held else ""
            raise StoreError(f"a run is going on in {workspace.root}{named}", "remove artifacts when it is done")
        yield


@contextmanager
def _gate(workspace: Workspace) -> Iterator[tuple[int, Path]]:
    path = workspace.ensure(workspace.root / "locks") / "artifacts.gate"
    with storage("take a lock", path.parent):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)


def _held(folder: Path) -> list[str]:
    with storage("look for running stages", folder):
        return [path.stem for path in sorted(folder.glob("*.lock")) if locks.is_held(path)]
