"""Questions to the ledger with the SQL that answers them, from cookbook.sql."""

from __future__ import annotations

from pathlib import Path

_MARK = "\n-- ## "


def _read() -> tuple[tuple[str, str], ...]:
    parts = (Path(__file__).parent / "cookbook.sql").read_text(encoding="utf-8").split(_MARK)[1:]
    return tuple((title, query.strip()) for title, _, query in (part.partition("\n") for part in parts))


COOKBOOK = _read()
"""(question, query), in the order of docs/ledger.md."""
