"""What is new in a ledger: a version that changes with every record, without opening the ledger."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from gridloom.stores.workspace import Workspace
from gridloom.view.reader import Session

NEWEST = 20
"""Attempts of a run that its page lists first."""
AT_ONCE = 200
"""Attempts that one answer adds."""


def version(workspace: Workspace) -> str:
    """Return a digest of the names and sizes of the journals and of the ledger's change: equal while nothing is new."""
    found = []
    for folder in (workspace.journal_dir, workspace.root):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.endswith((".jsonl", ".duckdb")):
                        state = entry.stat()
                        # the ledger itself changes with every ingestion of what a journal already has
                        found.append(f"{entry.name} {state.st_size if entry.name.endswith('.jsonl') else 'is there'}")
        except OSError:
            continue
    return hashlib.sha256("\n".join(sorted(found)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def newest(session: Session, run_id: str) -> list[dict[str, Any]]:
    """Return the last attempts of a run, latest first."""
    return session.rows(
        "SELECT attempt_id || '@' || v_place AS name, verdict, score, v_solved AS solved, feedback FROM attempts "
        "WHERE run_id = ? ORDER BY rowid DESC LIMIT ?",
        [run_id, NEWEST],
    )


def cursor(session: Session) -> int:
    """Return the place after the last attempt of the ledger; attempts are only ever added behind it."""
    row = session.one("SELECT coalesce(max(rowid), -1)::BIGINT AS last FROM attempts")
    return int(row["last"]) if row else -1


def attempts_since(session: Session, run_id: str, place: int) -> list[dict[str, Any]]:
    """Return the attempts of a run behind a place, latest first."""
    return session.rows(
        "SELECT attempt_id || '@' || v_place AS name, verdict, score, v_solved AS solved, feedback FROM attempts "
        "WHERE rowid > ? AND run_id = ? ORDER BY rowid DESC LIMIT ?",
        [place, run_id, AT_ONCE],
    )
