"""Comparison of what two workspaces recorded: rows of every table, and the content of every artifact, times aside.

Rows are compared as multisets, so a lost row and a doubled one both show. Keys, grids, figures and weights must be
equal bit for bit. What differs between two runs that nobody killed is left out: times, run ids, process ids, memory.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from .state import as_json

TIMES = re.compile(r"(_at|_s|seconds|_bytes|_per_s|duration|time|timings|timestamp)$|^(seconds|wall|elapsed)")
"""Names of columns, and of keys in JSON, that hold a time, a rate or an amount of memory."""
OF_PROCESS = {"host", "pid", "run_id", "gridloom_version", "solve_run_id", "calibrated_on", "bytes", "hardware",
              "resumed_tasks", "peak_memory_bytes", "stage_memory_bytes", "thread_id",
              "v_place", "states_read", "states_reused", "head_cache_hits", "head_cache_misses"}  # fmt: skip
"""Names of what a process is, or did itself: one that resumes finds states of a LLaMA that another one computed."""
UNCOMPARED = {
    "graph_checkpoints",
    "graph_blobs",
    "graph_writes",
    "graph_changes",
    "replays",
    "run_processes",
    "stage_processes",
}
"""Tables of LangGraph's own state, whose ids are times, and of processes, of which a killed run has more. Only that no
key stands twice is checked."""
VOLATILE_FILES = ("manifest.json", "README.md")


def stable(value: Any) -> Any:
    """Return a value without times, run ids and the like, at any depth."""
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in OF_PROCESS and not TIMES.search(k)}
    if isinstance(value, list | tuple):
        return [stable(item) for item in value]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, float):
        return value.hex()
    return value


def _row(row: dict[str, Any]) -> str:
    made = {}
    for name, value in stable(row).items():
        if isinstance(value, str) and value[:1] in "{[":
            with suppress(ValueError):
                value = stable(json.loads(value))
        made[name] = value
    return as_json(made)


def run_ids(ledger: Any) -> list[str]:
    """Return the ids of all runs, which texts may hold."""
    return [str(row["run_id"]) for row in ledger.rows("SELECT run_id FROM runs")]


def _rows(cursor: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _anonymous(text: str, runs: list[str]) -> str:
    for run in sorted(runs, key=len, reverse=True):
        text = text.replace(run, "RUN")
    return text


def recorded(root: Path) -> dict[str, list[str]]:
    """Return the rows of every table of the workspace at `root`, without what differs between equal runs, sorted."""
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.schema import tables
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace(root))
    wanted = (*tables(), "rejected", "journals")
    with ledger.reading() as connection:  # one connection: opening one takes longer than reading a table
        every = {name: _rows(connection.execute(f"FROM {name}")) for name in wanted}
    found: dict[str, list[str]] = {}
    runs = [str(row["run_id"]) for row in every["runs"]]
    for name, table in tables().items():
        rows = every[name]
        keys = Counter(tuple(str(row[column]) for column in table.key) for row in rows)
        doubled = [key for key, number in keys.items() if number > 1]
        if doubled:
            found[f"{name} doubled"] = [str(key) for key in doubled]
        if name == "metrics":
            rows = [row for row in rows if not TIMES.search(row["name"])]
        if name not in UNCOMPARED:
            found[name] = sorted(_anonymous(_row(row), runs) for row in rows)
    found["rejected"] = sorted(_row(row) for row in every["rejected"])
    found["lost lines"] = [f"{row['journal']}: {row['lost_lines']}" for row in every["journals"] if row["lost_lines"]]
    found["warnings"] = list(ledger.warnings)
    return found


def published(root: Path, runs: list[str]) -> dict[str, list[str]]:
    """Return digests of the files of every artifact: weights and data bit for bit, reports without their times."""
    found: dict[str, list[str]] = {}
    folder = root / "artifacts"
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        parts = path.relative_to(folder).parts
        if not path.is_file() or parts[0].startswith(".") or path.name in VOLATILE_FILES:
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            lines = data.decode("utf-8").splitlines() if path.suffix == ".jsonl" else [data.decode("utf-8")]
            data = _anonymous("\n".join(as_json(stable(json.loads(line))) for line in lines), runs).encode()
        found.setdefault(parts[0], []).append(f"{'/'.join(parts[1:])} {hashlib.sha256(data).hexdigest()}")
    return found


def remains(root: Path) -> list[str]:
    """Return what should not be left when every run is done: work folders, folders aside."""
    left = [str(path.relative_to(root)) for name in ("work",) for path in (root / name).glob("*")]
    return left


def snapshot(root: Path) -> dict[str, Any]:
    """Return everything that is compared: what the live ledger holds, and what one rebuilt from the journals does."""
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    live = recorded(root)
    ledger = root / "ledger.duckdb"
    ledger.rename(ledger.with_suffix(".live"))
    rebuilt = recorded(root)
    ledger.unlink()
    ledger.with_suffix(".live").rename(ledger)
    runs = run_ids(Ledger(Workspace(root)))
    return {"live": live, "rebuilt": rebuilt, "artifacts": published(root, runs), "left": remains(root)}


def normal(tables: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return tables in which the runs that found everything cached, and their cached stages, are left out.

    A run killed after its last stage was published has nothing left to execute: the next one may be a run of its own.
    """
    made = dict(tables)
    stages = [json.loads(row) for row in tables["stages"]]
    done = [row for row in stages if row["status"] != "cached"]
    made["stages"] = sorted(as_json(row) for row in done)
    statuses = [json.loads(row) for row in tables["runs"]]
    made["runs"] = sorted({as_json(row) for row in statuses})
    return made


def differences(reference: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return what a workspace lacks, or has beside, the reference."""
    lines = []
    wanted = normal(reference["live"])
    for part in ("live", "rebuilt"):
        here = normal(found[part])
        for name in sorted({*wanted, *here}):
            left, right = Counter(wanted.get(name, ())), Counter(here.get(name, ()))
            lines += [f"{part} {name} lost: {row}" for row in (left - right).elements()]
            lines += [f"{part} {name} beside: {row}" for row in (right - left).elements()]
    for key in sorted({*reference["artifacts"], *found["artifacts"]}):
        if reference["artifacts"].get(key) != found["artifacts"].get(key):
            lines.append(f"artifact {key}: {reference['artifacts'].get(key)} is now {found['artifacts'].get(key)}")
    lines += [f"left behind: {path}" for path in found["left"]]
    return lines
