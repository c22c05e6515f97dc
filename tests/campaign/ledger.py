"""Large ledgers: journals of many synthetic attempts are ingested; nothing is lost, nothing stands twice.

Records a second, memory and the times of the views are measured and reported, never asserted: they are of the machine.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from . import places
from .children import Ended, run_child
from .state import Limits, State, case_random, group_of

PROGRAM = "ledger"
SIZES = (300, 5_000, 50_000, 200_000, 1_000_000)
"""Attempts of the cases, from small to large; later cases repeat the largest that the time allows."""
QUERIES = (
    "FROM v_runs", "FROM v_attempts LIMIT 50", "FROM v_tasks LIMIT 50", "FROM v_failed LIMIT 50", "FROM v_leaderboard",
    "FROM v_costs LIMIT 50", "FROM v_metrics_latest LIMIT 50",
)  # fmt: skip
CASE_S = 3_600.0


def _attempt_keys(root: Path) -> tuple[Counter[str], int]:
    """Return the records of the journals by table, and the number of attempts."""
    counts: Counter[str] = Counter()
    for path in (root / "journal").glob("*.jsonl"):
        with path.open("rb") as lines:
            for line in lines:
                for unit in json.loads(line[9:]).get("r", ()):
                    counts[unit["t"]] += 1
    return counts, counts["attempts"]


def measure(root: Path, attempts: int, seed: int) -> dict[str, Any]:
    """Write, ingest, count and ask; return figures, and under `lost` what does not agree."""
    sys.path.insert(0, str(places.SUPPORT))
    from big_ledger import write_journals

    from gridloom.stores.ledger import Ledger
    from gridloom.stores.schema import tables
    from gridloom.stores.workspace import Workspace

    began = time.perf_counter()
    write_journals(root, attempts, seed)
    figures: dict[str, Any] = {"attempts": attempts, "written_s": time.perf_counter() - began}
    written, _ = _attempt_keys(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ledger, began = Ledger(Workspace(root), timeout_s=600), time.perf_counter()
    ledger.ingest()
    spent = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures |= {"records": written.total(), "ingested_s": spent, "records_per_s": written.total() / spent}
    figures |= {"peak_mb": peak / 1024, "grown_mb": (peak - before) / 1024}
    figures["lost"] = _lost(ledger, written, tables())
    figures["views_ms"] = {}
    for query in QUERIES:
        try:
            ledger.rows(query)  # the first answer reads the file
            began = time.perf_counter()
            ledger.rows(query)
        except Exception as error:
            figures["lost"].append(f"{query}: {error}")
            continue
        figures["views_ms"][query] = round((time.perf_counter() - began) * 1e3, 1)
    ledger.ingest()
    figures["lost"] += [f"after a second ingestion: {line}" for line in _lost(ledger, written, tables())]
    return figures


def _lost(ledger: Any, written: Counter[str], tables: dict[str, Any]) -> list[str]:
    """Return where rows and records disagree. Records of `runs` and `stages` of one key are one row."""
    found = []
    for name, table in tables.items():
        keys = ", ".join(f'"{column}"' for column in table.key)
        (row,) = ledger.rows(
            f"SELECT count(*) AS n, (SELECT count(*) FROM (SELECT DISTINCT {keys} FROM {name})) AS d FROM {name}"
        )
        if row["n"] != row["d"]:
            found.append(f"{name}: {row['n']} rows, {row['d']} keys")
        if name not in ("runs", "stages") and row["n"] != written[name]:
            found.append(f"{name}: {row['n']} rows of {written[name]} records")
    for query in ("SELECT count(*) AS n FROM rejected", "SELECT coalesce(sum(lost_lines), 0) AS n FROM journals"):
        (row,) = ledger.rows(query)
        if row["n"]:
            found.append(f"{query}: {row['n']}")
    return [*found, *ledger.warnings]


def run(state: State, limits: Limits) -> None:
    """Run cases until the limits are reached; a case that would take longer than what is left is not begun."""
    if limits.case is not None:
        _case(state, limits.case)
        return
    done, before, last = 0, state.seconds, 0.0
    while not limits.reached(done):
        size, previous = _size(state.next_case), _size(max(state.next_case - 1, 0))
        left = None if limits.seconds is None else limits.seconds - limits.spent
        if left is not None and done and last * size / previous > left:
            break
        began = time.monotonic()
        _case(state, state.next_case)
        last = time.monotonic() - began
        state.next_case, done = state.next_case + 1, done + 1
        state.seconds = before + limits.spent
        state.save()


def _size(number: int) -> int:
    return SIZES[min(number, len(SIZES) - 1)]


def _case(state: State, number: int) -> None:
    size = _size(number)
    seed = case_random(PROGRAM, state.seed, number).randrange(2**31)
    base = Path(tempfile.mkdtemp(prefix="ledger-", dir=os.environ.get("GRIDLOOM_SCRATCH")))
    folder, path = base / "case", base / "figures.json"
    folder.mkdir()
    try:

        def work() -> int:
            path.write_text(json.dumps(measure(folder / ".gridloom", size, seed)), encoding="utf-8")
            return 0

        ended = run_child(work, folder, timeout_s=CASE_S)
        state.count(attempts=size)
        if ended.code or not path.exists():
            state.find(_ended(ended), number, {}, ended.output)
            return
        figures = json.loads(path.read_text(encoding="utf-8"))
        print(f"ledger case {number}: {json.dumps(figures)}", flush=True)
        state.count(records=figures["records"])
        if figures["lost"]:
            state.find("records and rows disagree", number, {}, "\n".join(figures["lost"]))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _ended(ended: Ended) -> str:
    if ended.timed_out:
        return "a hang"
    return f"a traceback: {group_of(ended.traceback)}" if ended.traceback else f"exit {ended.code}"
