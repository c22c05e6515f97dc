"""Newest attempts of a run, and those behind a place in the order in which they were recorded."""

from __future__ import annotations

from typing import Any

from gridloom.view.reader import Session

NEWEST = 20
"""Attempts of a run that its page lists first."""
LAST_ROWS = 2000
"""Rows of the table that are searched first for the newest attempts of a run."""
AT_ONCE = 200
"""Attempts that one answer adds."""


def newest(session: Session, run_id: str) -> list[dict[str, Any]]:
    """Return the last attempts of a run, latest first."""
    return session.once(("newest", run_id), lambda: _newest(session, run_id))


def _newest(session: Session, run_id: str) -> list[dict[str, Any]]:
    # of a run that goes on they are among the last rows, which are read without the others
    found = attempts_since(session, run_id, cursor(session) - LAST_ROWS)
    return (found if len(found) >= NEWEST else attempts_since(session, run_id, -1))[:NEWEST]


def cursor(session: Session) -> int:
    """Return the place after the last attempt of the ledger; attempts are only ever added behind it."""

    def last() -> int:
        row = session.one("SELECT coalesce(max(rowid), -1)::BIGINT AS last FROM attempts")
        return int(row["last"]) if row else -1

    return session.once(("cursor",), last)


def attempts_since(session: Session, run_id: str, place: int) -> list[dict[str, Any]]:
    """Return the attempts of a run behind a place, latest first."""
    return session.rows(
        "SELECT attempt_id || '@' || v_place AS name, verdict, score, v_solved AS solved, feedback FROM attempts "
        "WHERE rowid > ? AND run_id = ? ORDER BY rowid DESC LIMIT ?",
        [place, run_id, AT_ONCE],
    )
