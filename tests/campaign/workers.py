"""SIGKILL at random moments over a driver and its workers, until each run is done; then the records are compared.

`python -m tests.campaign.workers KILLS [--seed SEED]` kills that many times. What is run is the toy stage of
`tests/support/toy_split.py` through the real executor, crew, journals and ledger: its items cost nothing, so that most
of the time something of the machinery is going on. A run that was killed as a whole is started again.

With `--solve` the run is `gridloom run solve-search --on local:2` over ARC tasks: LangGraph, its checkpoints, attempts,
picks and scores, which are compared with those of one process that nobody killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

from .compare import differences, snapshot

TREE = Path(__file__).parents[2]
SUPPORT = TREE / "tests" / "support"
GIVEN_UP = "cannot be started: it ended 3 times before any work (killed by SIGKILL)"
"""Message of a run all of whose workers the kills have ended before any work; the same command resumes it."""


def children(pid: int) -> list[int]:
    """Return the children of a process, of which a driver has its workers alone."""
    try:
        text = Path(f"/proc/{pid}/task").iterdir()
        found = [(task / "children").read_text().split() for task in text]
    except OSError:
        return []
    return [int(child) for part in found for child in part]


def kill_until_done(
    command: Sequence[str], environment: Mapping[str, str], chance: random.Random, kills: int, pause_s: float
) -> Counter[str]:
    """Start a driver until it ends by itself, and kill it and its workers up to so many times; return the counts.

    Args:
        pause_s: longest time between two kills, s.

    Raises AssertionError where a driver ends in another way.
    """
    killed: Counter[str] = Counter()
    while True:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
            while driver.poll() is None:
                if chance.random() < 0.8:  # else also while the driver starts
                    while driver.poll() is None and len(children(driver.pid)) < 2:
                        time.sleep(0.01)
                time.sleep(chance.uniform(0.02, pause_s))
                if killed.total() >= kills:
                    driver.wait()
                    break
                workers = children(driver.pid)
                victim = chance.choice([driver.pid, *workers, *workers])
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed["driver" if victim == driver.pid else "worker"] += 1
            assert driver.stdout is not None, "it is a pipe"
            printed = driver.stdout.read().decode(errors="replace")
        if driver.returncode == 0:
            return killed
        if driver.returncode == 1 and GIVEN_UP in printed:  # kills hit workers three times in a row before any work
            continue
        assert driver.returncode == -signal.SIGKILL, printed


def run_with_kills(root: Path, chance: random.Random, kills: int, items: int = 60, sleep: float = 0.03) -> Counter[str]:
    """Run the toy stage to its end with up to so many kills; return the number of kills of drivers and workers.

    Raises AssertionError where something is lost, doubled or different.
    """
    command = [sys.executable, str(SUPPORT / "toy_split.py"), str(root), "2", str(items), str(sleep)]
    path = os.pathsep.join([str(SUPPORT), str(TREE)])
    killed = kill_until_done(command, {**os.environ, "PYTHONPATH": path}, chance, kills, 1.5)
    check(Workspace(root), items, killed["driver"])
    return killed


def solve(home: Path, on: str, tasks: int) -> list[str]:
    """Return the command line of a solve of so many ARC tasks by the search."""
    return [
        *(sys.executable, "-m", "gridloom", "run", "solve-search", "--home", str(home), "--on", on, "-q"),
        *("--set", f"stages.solve.limit={tasks}", "--set", "stages.solve.solver.search.states=100"),
    ]


def solve_with_kills(
    root: Path, wanted: dict[str, Any], chance: random.Random, kills: int, tasks: int, pause_s: float
) -> Counter[str]:
    """Solve on two workers with up to so many kills, and compare with the snapshot of a workspace of one process.

    Raises AssertionError where something is lost, doubled or different.
    """
    killed = kill_until_done(solve(root, "local:2", tasks), os.environ, chance, kills, pause_s)
    lines = differences(wanted, snapshot(root))
    assert not lines, "\n".join(lines[:20])
    return killed


def check(workspace: Workspace, items: int, drivers_killed: int) -> None:
    """Compare records and artifact with those of a run that nobody killed. Raises AssertionError."""
    wanted = [[n, float(n * n)] for n in range(items)]
    artifact = ArtifactStore(workspace).find("gl1:toy")
    assert artifact is not None
    ArtifactStore(workspace).verify(artifact)
    assert json.loads((artifact.path / "squares.json").read_text()) == wanted
    ledger = Ledger(workspace)
    assert ledger.rows("select count(*) as n, count(distinct step) as m from metrics")[0] == {"n": items, "m": items}
    assert ledger.warnings == []
    runs = ledger.rows("select status from v_runs")
    # a driver that was killed after it published leaves a run that the next one finds done
    assert {run["status"] for run in runs} == {"done"}, runs
    assert len(runs) <= 1 + drivers_killed
    # rebuilt from the journals alone, the ledger has the same rows
    workspace.ledger_path.unlink()
    assert ledger.rows("select count(*) as n from metrics")[0]["n"] == items


def main() -> None:
    """Kill as often as asked, over as many runs as that takes, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solve", action="store_true", help="kill a solve of ARC tasks in place of the toy stage")
    parser.add_argument("--tasks", type=int, default=40, help="tasks of such a solve")
    parser.add_argument("--pause", type=float, default=8.0, help="longest time between two kills of a solve, s")
    asked = parser.parse_args()
    chance, total, runs = random.Random(asked.seed), Counter[str](), 0
    with tempfile.TemporaryDirectory() as folder:
        wanted: dict[str, Any] = {}
        if asked.solve:
            alone = Path(folder) / "alone"
            subprocess.run(solve(alone, "here", asked.tasks), check=True, stdout=subprocess.DEVNULL)
            wanted = snapshot(alone)
        while total.total() < asked.kills:
            runs += 1
            root, left = Path(folder) / str(runs), min(12, asked.kills - total.total())
            if asked.solve:
                total += solve_with_kills(root, wanted, chance, left, asked.tasks, asked.pause)
            else:
                total += run_with_kills(root, chance, left)
            print(
                f"{runs} runs, {total['driver']} kills of drivers, {total['worker']} of workers: all equal", flush=True
            )


if __name__ == "__main__":
    main()
