"""What the ledger and the checkpointer cost the loop: one append of an attempt, one put of a checkpoint.

    python benchmarks/ledger_writes.py [--repeats 300]

Prints medians in milliseconds, and that of opening a DuckDB file, which a store without a journal would pay each time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
from langgraph.checkpoint.base import empty_checkpoint
from processor import conditions

from gridloom.stores.ledger import LedgerWriter
from gridloom.stores.records import AttemptRecord
from gridloom.stores.threads.checkpointer import DuckDBSaver
from gridloom.stores.workspace import Workspace


def median_ms(function: Callable[[int], object], repeats: int) -> float:
    """Median milliseconds of the wall clock; each call gets its number."""
    took = []
    for number in range(repeats):
        began = time.perf_counter()
        function(number)
        took.append(time.perf_counter() - began)
    return 1000 * statistics.median(took)


def an_attempt(number: int) -> AttemptRecord:
    """An attempt with the largest grid there is."""
    return AttemptRecord(
        run_id="run-1",
        stage="solve",
        task_id="task",
        attempt=number,
        fork=0,
        attempt_id=f"task.{number}",
        parent=None,
        plan={"views": ["t1|||0123456789"] * 8},
        prompt="p" * 3000,
        text="t" * 300,
        latent=bytes(1152),
        prefix=bytes(4608),
        grids=[[[7] * 30] * 30],
        verdict="rejected",
        score=0.5,
        feedback="3 of 4 demonstrations",
        stage_key="gl1:a",
        checkpoint_key="gl1:b",
        geometry={"rows": 8},
        started_at=0.0,
        ended_at=1.0,
        timings={},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=300)
    repeats: int = parser.parse_args().repeats
    print(conditions())
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder) / "gridloom")
        with LedgerWriter(workspace, "run-1") as writer:
            saver = DuckDBSaver(writer)
            values = {"trail": ["node"] * 8, "latent": bytes(1152), "grid": [[7] * 30] * 30}

            def put(number: int) -> None:
                versions = dict.fromkeys(values, f"{number:04d}.0")
                checkpoint: Any = {
                    **empty_checkpoint(),
                    "id": f"{number:04d}",
                    "channel_values": values,
                    "channel_versions": versions,
                }
                place: Any = {"configurable": {"thread_id": "task", "checkpoint_ns": ""}}
                saver.put(place, checkpoint, {"source": "loop", "step": number}, versions)  # type: ignore[arg-type]

            print(f"append an attempt     {median_ms(lambda n: writer.append(an_attempt(n)), repeats):.3f} ms")
            print(f"put a checkpoint      {median_ms(put, repeats):.3f} ms")
        opened = Path(folder) / "plain.duckdb"
        print(f"open a DuckDB file    {median_ms(lambda _: duckdb.connect(str(opened)).close(), 20):.3f} ms")


if __name__ == "__main__":
    main()
