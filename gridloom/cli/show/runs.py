"""One recorded run, as data and as lines."""

from __future__ import annotations

from typing import Any

from gridloom.cli.show.tables import print_table, rows_table, short_key
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.runs.names import find_run
from gridloom.stores.workspace import Workspace
from gridloom.wording import duration

FILES = ("submission.json", "report.json", "attempts.jsonl", "card.md")
"""Files of an artifact that people open."""


def run_data(workspace: Workspace, what: str) -> dict[str, Any]:
    """Return a run's row of v_runs, its stages in the order of their start, and the files that they made.

    Raises GridloomError for an unknown run.
    """
    ledger, store = Ledger(workspace), ArtifactStore(workspace)
    run_id = find_run(what, ledger)
    (run,) = ledger.rows("from v_runs where run_id = ?", [run_id])
    stages = ledger.rows(
        "select stage, kind, status, key, seconds, started_at from v_stage_times where run_id = ? "
        "order by started_at nulls last, stage",
        [run_id],
    )
    for stage in stages:
        made = store.find(stage["key"]) if stage["key"] else None
        stage["path"] = None if made is None else str(made.path)
        stage["files"] = [] if made is None else [str(made.path / name) for name in FILES if made.has(name)]
    return {"format_version": 1, **run, "stages": stages}


def print_run(run: dict[str, Any]) -> None:
    """Print a run: its head, the table of its stages, the files to open."""
    overrides = "".join(f" --set {one}" for one in run["overrides"] or ())
    time = "" if run["seconds"] is None else f", {duration(run['seconds'])}"
    print(f"run {run['run_id']}  {run['name']}: {run['status']}{time}")
    print(f"  from {run['spec']}{overrides}, on {run['device']} of {run['host']}, gridloom {run['gridloom_version']}")
    if run["error"]:
        print(f"  {run['error']}")
    rows = [
        {
            "stage": stage["stage"],
            "kind": stage["kind"],
            "status": stage["status"],
            "key": None if stage["key"] is None else short_key(stage["key"]),
            "time": None if stage["seconds"] is None or stage["status"] == "cached" else duration(stage["seconds"]),
        }
        for stage in run["stages"]
    ]
    if rows:
        print_table(rows_table(rows, drop=("key", "kind")))
    for stage in run["stages"]:
        for path in stage["files"]:
            print(f"{stage['stage']}  {path}")
