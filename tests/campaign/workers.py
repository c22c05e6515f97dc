"""SIGKILL at random moments over a driver and its workers, until each run is done; then the records are compared.

`python -m tests.campaign.workers KILLS [SEED]` kills that many times. What is run is the toy stage of
`tests/support/toy_split.py` through the real executor, crew, journals and ledger: its items cost nothing, so that most
of the time something of the machinery is going on. A run that was killed as a whole is started again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SUPPORT = Path(__file__).parents[1] / "support"


def children(pid: int) -> list[int]:
    """Return the children of a process, of which a driver has its workers alone."""
    try:
        text = Path(f"/proc/{pid}/task").iterdir()
        found = [(task / "children").read_text().split() for task in text]
    except OSError:
        return []
    return [int(child) for part in found for child in part]


def run_with_kills(root: Path, chance: random.Random, kills: int, items: int = 60, sleep: float = 0.03) -> Counter[str]:
    """Run the toy stage to its end with up to so many kills; return the number of kills of drivers and workers.

    Raises AssertionError where something is lost, doubled or different.
    """
    killed: Counter[str] = Counter()
    command = [sys.executable, str(SUPPORT / "toy_split.py"), str(root), "2", str(items), str(sleep)]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    while True:
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as driver:
            while driver.poll() is None:
                if chance.random() < 0.8:  # else also while the driver starts
                    while driver.poll() is None and len(children(driver.pid)) < 2:
                        time.sleep(0.01)
                time.sleep(chance.uniform(0.02, 1.5))
                if killed.total() >= kills:
                    driver.wait()
                    break
                workers = children(driver.pid)
                victim = chance.choice([driver.pid, *workers, *workers])
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed["driver" if victim == driver.pid else "worker"] += 1
            assert driver.stdout is not None, "it is a pipe"
            said = driver.stdout.read().decode(errors="replace")
        if driver.returncode == 0:
            break
        assert driver.returncode == -signal.SIGKILL, said
    check(Workspace(root), items, killed["driver"])
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
    kills, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    chance, total, runs = random.Random(seed), Counter[str](), 0
    while total.total() < kills:
        with tempfile.TemporaryDirectory() as folder:
            total += run_with_kills(Path(folder) / "w", chance, min(12, kills - total.total()))
        runs += 1
        print(f"{runs} runs, {total['driver']} kills of drivers, {total['worker']} of workers: all equal", flush=True)


if __name__ == "__main__":
    main()
