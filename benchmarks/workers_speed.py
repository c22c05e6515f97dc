"""A solve of many ARC tasks over 1, 2 and 4 worker processes beside the lone run: equal bytes, seconds, overhead.

    OMP_NUM_THREADS=1 python benchmarks/workers_speed.py [--tasks 400] [--states 2000] [--workers 1 2 4]

Prints a line for each run: wall seconds, CPU seconds of all its processes, and whether attempts, picks and scores
equal those of the lone run byte for byte. The overhead of a task is the time of the run on one worker above that of the
lone run, less that of the same pair over one task, divided by the number of tasks: start and end are not in it. It is
printed in CPU seconds, which a busy machine leaves alone, and in wall seconds, which mean something on a free one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from processor import conditions

FILES = ("attempts.jsonl", "picks.json", "submission.json", "report.json")


@dataclass(frozen=True)
class Ran:
    """One run."""

    wall_s: float
    cpu_s: float
    files: dict[str, bytes]


def run(tasks: int, states: int, on: str) -> Ran:
    """Run the search over so many tasks in a workspace of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [
            *(sys.executable, "-m", "gridloom", "run", "solve-search", "--home", home, "--on", on, "-q"),
            *("--set", f"stages.solve.limit={tasks}", "--set", f"stages.solve.solver.search.states={states}"),
        ]
        before, began = os.times(), time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall, after = time.monotonic() - began, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        found = {name: sorted(Path(home).glob(f"artifacts/*/{name}")) for name in FILES}
        return Ran(wall, cpu, {name: b"".join(path.read_bytes() for path in paths) for name, paths in found.items()})


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--states", type=int, default=2000)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    asked = parser.parse_args()
    print(conditions(), flush=True)
    run(1, asked.states, "here")  # compiled kernels and facts of datasets are kept from here on
    one, crew = (run(1, asked.states, on) for on in ("here", "local:1"))
    print(
        f"one task: alone {one.wall_s:.1f} s, {one.cpu_s:.1f} s CPU; on one worker {crew.wall_s:.1f} s, "
        f"{crew.cpu_s:.1f} s CPU",
        flush=True,
    )
    alone = run(asked.tasks, asked.states, "here")
    print(f"alone    {alone.wall_s:7.1f} s  {alone.cpu_s:7.1f} s CPU", flush=True)
    for number in asked.workers:
        made = run(asked.tasks, asked.states, f"local:{number}")
        equal = "equal" if made.files == alone.files and all(alone.files.values()) else "DIFFERENT"
        extra = ""
        if number == 1:
            tasks = max(asked.tasks - 1, 1)
            cpu = 1000 * (made.cpu_s - alone.cpu_s - (crew.cpu_s - one.cpu_s)) / tasks
            wall = 1000 * (made.wall_s - alone.wall_s - (crew.wall_s - one.wall_s)) / tasks
            extra = f"  overhead {cpu:.1f} ms CPU, {wall:.1f} ms a task"
        ratio = f"{alone.wall_s / made.wall_s:.2f}x as fast as alone"
        print(f"local:{number:<3}{made.wall_s:7.1f} s  {made.cpu_s:7.1f} s CPU  {ratio}  {equal}{extra}", flush=True)


if __name__ == "__main__":
    main()
