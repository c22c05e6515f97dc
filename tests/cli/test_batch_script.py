"""The batch script of docs/: a run that SIGUSR1 stops in one allocation goes on in the next by the same command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace

SCRIPT = Path(__file__).parents[2] / "docs" / "train.sbatch"
SPEC = """
gridloom: 1
name: bits
data:
  bits: {kind: parity, bits: 4}
models:
  small: {kind: act_rnn, hidden_size: 4, halt_max_steps: 2}
stages:
  learn:
    {kind: train, model: small, data: bits, steps: 100000, batch_size: 2, checkpoint_every: 20, log_every: 1, ema: 0}
"""


def command(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


def allocation(root: Path) -> subprocess.Popen[str]:
    """Start the script as Slurm would, with commands of its own for `gridloom` and `scontrol`."""
    command(root / "bin", "gridloom", f'exec {sys.executable} -m gridloom "$@"')
    command(root / "bin", "scontrol", f'echo "$@" >> {root / "requeued"}')
    environment = {
        **os.environ,
        "PATH": f"{root / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "17",
        "GRIDLOOM_HOME": str(root / "home"),
        "OMP_NUM_THREADS": "1",
    }
    arguments = ["bash", str(SCRIPT), str(root / "bits.yaml")]
    return subprocess.Popen(
        arguments, env=environment, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def states(root: Path) -> list[Path]:
    return sorted(root.glob("home/**/state-????????/state.json"))


def steps(root: Path) -> list[tuple[str, int]]:
    rows = Ledger(Workspace(root / "home")).rows(
        "select run_id, step from metrics where name = 'loss' order by recorded_at, step"
    )
    return [(str(row["run_id"]), int(row["step"])) for row in rows]


def until_training(root: Path, job: subprocess.Popen[str], after: int) -> None:
    """Wait for a saved state of a step beyond `after`."""
    end = time.monotonic() + 120
    while not any(int(path.parent.name[-8:]) > after for path in states(root)):
        assert job.poll() is None, job.stdout.read() if job.stdout else ""
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bits.yaml").write_text(SPEC)
    return tmp_path


@pytest.mark.slow
def test_an_interrupted_run_goes_on_in_the_next_allocation(root: Path) -> None:
    last = 0
    for number, sent in enumerate((signal.SIGUSR1, signal.SIGTERM), start=1):
        job = allocation(root)
        until_training(root, job, after=last)
        signalled = time.time()
        job.send_signal(sent)
        out, _ = job.communicate(timeout=120)
        assert job.returncode == 75, out
        assert f"learn stopped by {sent.name} at step" in out
        newest = states(root)[-1]
        assert newest.stat().st_mtime > signalled
        assert int(newest.parent.name[-8:]) > last
        last = int(newest.parent.name[-8:])
        queued = (root / "requeued").read_text().splitlines()
        # a job that is cancelled is not queued again
        assert queued == ["requeue 17"]
        if number > 1:
            assert "learn: resuming at step" in out
    found = steps(root)
    assert len({run for run, _ in found}) == 1
    assert [step for _, step in found] == list(range(1, last + 1))


def test_other_exit_statuses_are_passed_on(root: Path) -> None:
    (root / "bits.yaml").write_text(SPEC.replace("halt_max_steps: 2", "halt_max_steps: 0"))
    job = allocation(root)
    out, _ = job.communicate(timeout=120)
    assert job.returncode == 1, out
    assert "'halt_max_steps' must be an integer above 0, not 0" in out
    assert not (root / "requeued").exists()
