"""Speed and memory of a large ledger: ingestion of synthetic journals, and pages of the views.

    python benchmarks/big_ledger_speed.py [--attempts 100000] [--workspace FOLDER]

Peer of the ingestion: DuckDB alone, which copies the finished rows of the largest table (`trm_steps`) into a new file.
With `--workspace` the journals stay there and a second call reuses them; a million attempts take 3.7 GB.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from big_ledger import write_journals

PAGES = (
    "from v_runs order by started_at desc limit 50",
    "from v_leaderboard",
    "from v_costs limit 50",
    "from v_metrics_latest limit 50",
    "from v_tasks limit 50",
    "from v_tasks where run_id = $run limit 50",
    "from v_failed where run_id = $run limit 50",
    "from v_attempts limit 50",
    "from v_attempts order by started_at desc limit 50",
    "from v_attempts order by run_id, stage, task_id, attempt, fork limit 50",
    "from v_attempts where run_id = $run order by stage, task_id, attempt limit 50",
)


def seconds_of(function: Callable[[], object]) -> float:
    """Seconds of the wall clock of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--workspace", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(arguments.workspace or Path(folder) / "gridloom")
        if not workspace.journal_dir.is_dir():
            took_s = seconds_of(lambda: write_journals(workspace.root, arguments.attempts, 1))
            print(f"write journals       {took_s:.1f} s")
        for old in workspace.root.glob("ledger.*"):
            old.unlink()
        ledger = Ledger(workspace)
        began, cpu = time.perf_counter(), time.process_time()
        report = ledger.ingest()
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size = f"{report.num_records:,} records, {report.num_bytes / 1e6:,.0f} MB"
        rates = f"{report.num_records / wall:,.0f} records/s ({report.num_records / cpu:,.0f} a CPU second)"
        print(f"ingest               {size}: {wall:.1f} s, {rates}, peak {peak:.0f} MB")
        _peer(workspace, Path(folder))
        run = ledger.rows("select run_id from runs order by run_id limit 1")[0]["run_id"]
        for page in PAGES:
            ask = partial(ledger.answer, page, {"run": run} if "$run" in page else None)
            times = [seconds_of(ask) for _ in range(5)]
            print(f"{1000 * statistics.median(times):8.0f} ms  {page}")
        times = [seconds_of(lambda: ledger.attempt_page(run, limit=50)) for _ in range(5)]
        print(f"{1000 * statistics.median(times):8.0f} ms  gridloom attempts")
    # last, since it imports torch, whose 200 MB are none of the ingestion's
    from processor import conditions

    print(conditions())


def _peer(workspace: Workspace, folder: Path) -> None:
    with duckdb.connect(str(workspace.ledger_path), read_only=True) as connection:
        rows = connection.sql("from trm_steps").to_arrow_table()
    with duckdb.connect(str(folder / "plain.duckdb")) as connection:
        connection.register("incoming", rows)
        took = seconds_of(lambda: connection.execute("create table trm_steps as from incoming"))
    print(f"peer: DuckDB alone   {rows.num_rows:,} rows of trm_steps: {rows.num_rows / took:,.0f} rows/s")


if __name__ == "__main__":
    main()
