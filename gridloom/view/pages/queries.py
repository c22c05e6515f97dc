"""SQL: the cookbook, queries saved in the workspace, and the result of one query; search over prompts and texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gridloom.errors import GridloomError, StoreError
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import replacing
from gridloom.stores.workspace import Workspace
from gridloom.view.cookbook import COOKBOOK
from gridloom.view.html import link
from gridloom.view.reader import Session

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
"""Names of saved queries, which are names of files too."""
MAX_QUERY = 20_000
"""Longest text of a query, characters."""
MAX_SAVED = 500
FOUND_A_PAGE = 50
AROUND = 60
"""Characters shown before and after what was searched."""
IN_TEXTS = ("prompt", "text", "feedback")
"""Columns of an attempt that are searched, beside the ids."""


def sql_page(
    session: Session | None, workspace: Workspace, query: str = "", unsaved: GridloomError | None = None
) -> dict[str, Any]:
    """Return the page of a query with its result, or with the error in place of one.

    Args:
        session: None for a ledger without records.
        unsaved: why the query was not saved; it is then shown, not run.
    """
    result, error = None, unsaved
    if unsaved is None and query.strip() and session is not None:
        try:
            if len(query) > MAX_QUERY:
                raise StoreError(f"a query of {len(query):,} characters", f"at most {MAX_QUERY:,}")
            result = session.query(query)
        except StoreError as found:
            error = found
    return {
        "query": query,
        "result": result,
        "error": error,
        "cookbook": [(title, link("sql", q=text), text) for title, text in COOKBOOK],
        "saved": [(name, link("sql", q=text), text) for name, text in saved_queries(workspace)],
    }


def saved_queries(workspace: Workspace) -> list[tuple[str, str]]:
    """Return (name, text) of the files queries/*.sql of the workspace, by name; unreadable ones are left out."""
    found = []
    for path in sorted(_folder(workspace).glob("*.sql"))[:MAX_SAVED]:
        if NAME.fullmatch(path.stem) and path.is_file() and not path.is_symlink():
            with path.open(encoding="utf-8", errors="replace") as file:
                found.append((path.stem, file.read(MAX_QUERY)))
    return found


def save_query(workspace: Workspace, name: str, query: str) -> None:
    """Write a query into the workspace, replacing one of the same name. Raises GridloomError for an unusable one.

    Raises StoreError where the workspace cannot be written, as on a full disk.
    """
    if NAME.fullmatch(name) is None:
        raise GridloomError(
            f"'{name:.80}' cannot be the name of a query", "use small letters, digits, - and _, at most 60 of them"
        )
    if not query.strip() or len(query) > MAX_QUERY:
        raise GridloomError("the query is empty or too long", f"write 1 to {MAX_QUERY:,} characters")
    folder = workspace.ensure(_folder(workspace))
    with storage("save the query", folder), replacing(folder / f"{name}.sql") as aside:
        aside.write_text(query.replace("\r\n", "\n").rstrip() + "\n", encoding="utf-8")


def _folder(workspace: Workspace) -> Path:
    return workspace.root / "queries"


def search_page(session: Session, text: str = "", run: str = "") -> dict[str, Any]:
    """Return the attempts whose id, prompt, text, feedback or program holds a text, whatever its case; latest first."""
    runs = session.rows("SELECT run_id, name FROM runs ORDER BY started_at DESC NULLS LAST LIMIT 200")
    if not text.strip():
        return {"text": text, "run": run, "runs": runs, "found": [], "is_cut": False}
    params = {"text": text, "run": run, "most": FOUND_A_PAGE + 1}
    within = "($run = '' OR run_id = $run)"
    matches = " OR ".join(f"contains(lower({column}), lower($text))" for column in ("task_id", *IN_TEXTS))
    rows = session.rows(
        f"SELECT attempt_id || '@' || v_place AS name, run_id, stage, task_id, verdict, score, v_solved AS solved, "
        f"{', '.join(IN_TEXTS)} FROM attempts WHERE {within} AND ({matches}) LIMIT $most",
        params,
    )
    programs = session.rows(
        "SELECT a.attempt_id || '@' || a.v_place AS name, run_id, stage, task_id, a.verdict, a.score, "
        "a.v_solved AS solved, c.program FROM candidates c JOIN attempts a "
        "USING (run_id, stage, task_id, attempt, fork) "
        f"WHERE c.program IS NOT NULL AND {within} AND contains(lower(c.program), lower($text)) LIMIT $most",
        params,
    )
    found = [row | {"places": _places(row, text)} for row in (*rows, *programs)]
    return {
        "text": text,
        "run": run,
        "runs": runs,
        "found": found[:FOUND_A_PAGE],
        "is_cut": len(found) > FOUND_A_PAGE,
    }


def _places(row: dict[str, Any], text: str) -> list[tuple[str, str, str, str]]:
    """Return (column, before, match, after) of the first place in each column."""
    found = []
    for column in ("task_id", *IN_TEXTS, "program"):
        value = row.get(column) or ""
        at = value.lower().find(text.lower())
        if at >= 0:
            end = at + len(text)
            found.append((column, value[max(0, at - AROUND) : at], value[at:end], value[end : end + AROUND]))
    return found
