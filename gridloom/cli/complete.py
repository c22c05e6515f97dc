"""Completion of names in a shell: specs, runs, attempts, artifacts. One that cannot be read has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

MOST = 200
"""Largest number of attempts that are offered."""


def _begun(word: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(word)]


def _safely(look: Callable[[], Iterable[str]], word: str) -> list[str]:
    """Return what begins with `word`; a workspace that cannot be read must not print into the user's line."""
    from gridloom.errors import GridloomError

    with suppress(GridloomError, OSError):
        return _begun(word, look())
    return []


def complete_specs(incomplete: str) -> list[str]:
    """Return recipes and spec files that begin so."""
    from gridloom.compiler.text.library import recipe_names

    folder = Path(incomplete).parent if "/" in incomplete else Path()
    with suppress(OSError):
        files = [str(path) for path in folder.iterdir() if path.suffix in (".yaml", ".yml")]
        return _begun(incomplete, (*sorted(files), *recipe_names()))
    return _begun(incomplete, recipe_names())


def complete_recipes(incomplete: str) -> list[str]:
    """Return recipes that begin so."""
    from gridloom.compiler.text.library import recipe_names

    return _begun(incomplete, recipe_names())


def complete_runs(incomplete: str) -> list[str]:
    """Return short ids of runs that begin so, and whole ids."""
    from gridloom.stores.runs.names import short_ids

    def look() -> list[str]:
        ids = [str(row["run_id"]) for row in _rows("select run_id from runs order by started_at desc nulls last")]
        return [*short_ids(ids).values(), *ids]

    return _safely(look, incomplete)


def complete_attempts(incomplete: str) -> list[str]:
    """Return names of attempts that begin so, those of the newest runs first."""
    query = f"select name from v_attempts where starts_with(name, ?) order by started_at desc limit {MOST}"
    return _safely(lambda: [str(row["name"]) for row in _rows(query, [incomplete])], incomplete)


def complete_tasks(incomplete: str) -> list[str]:
    """Return ids of solved tasks that begin so."""
    query = f"select distinct task_id from tasks where starts_with(task_id, ?) order by all limit {MOST}"
    return _safely(lambda: [str(row["task_id"]) for row in _rows(query, [incomplete])], incomplete)


def complete_metrics(incomplete: str) -> list[str]:
    """Return names of recorded metrics that begin so."""
    query = "select distinct name from metrics where starts_with(name, ?) order by name"
    return _safely(lambda: [str(row["name"]) for row in _rows(query, [incomplete])], incomplete)


def complete_artifacts(incomplete: str) -> list[str]:
    """Return stages with artifacts, and keys, that begin so."""
    from gridloom.stores.keeping.artifacts import list_artifacts
    from gridloom.stores.workspace import Workspace

    def look() -> list[str]:
        found = list_artifacts(Workspace.find())
        return list(dict.fromkeys([*(one.stage for one in found), *(one.key for one in found)]))

    return _safely(look, incomplete)


def complete_checkpoints(incomplete: str) -> list[str]:
    """Return trainings with a checkpoint, and checkpoints that come with gridloom, that begin so."""
    from gridloom.runtime.checkpoints.description import shipped_names
    from gridloom.runtime.checkpoints.find import TRAININGS
    from gridloom.specs.stages import SHIPPED
    from gridloom.stores.keeping.artifacts import list_artifacts
    from gridloom.stores.workspace import Workspace

    def look() -> list[str]:
        found = [one.stage for one in list_artifacts(Workspace.find()) if one.kind in TRAININGS]
        return [*dict.fromkeys(found), *(f"{SHIPPED}{name}" for name in shipped_names())]

    return _safely(look, incomplete)


def _rows(sql: str, params: list[str] | None = None) -> list[dict[str, object]]:
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    return Ledger(Workspace.find()).rows(sql, params)
