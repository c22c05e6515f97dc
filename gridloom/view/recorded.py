"""Version of what is recorded in a workspace, which is read without opening the ledger."""

from __future__ import annotations

import hashlib
import os

from gridloom.stores.workspace import Workspace


def version(workspace: Workspace) -> str:
    """Return a digest of the names and sizes of the journals, which every record changes."""
    found = []
    try:
        with os.scandir(workspace.journal_dir) as entries:
            found = [f"{entry.name} {entry.stat().st_size}" for entry in entries if entry.name.endswith(".jsonl")]
    except OSError:
        pass  # no journal yet, or none any more: the ledger is all there is
    return hashlib.sha256("\n".join(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()[:16]
