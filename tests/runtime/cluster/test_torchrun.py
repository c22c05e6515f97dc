"""Runs that `--on torchrun:N` starts: N processes train together, and the exit status is that of the run."""

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

SPEC = """
gridloom: 1
name: two
device: cpu
where: torchrun:2
data:
  bits: {kind: parity, bits: 8}
models:
  net: {kind: act_rnn, cell: gru, hidden_size: 8, halt_max_steps: 4}
stages:
  learn: {kind: train, model: net, data: bits, steps: %d, batch_size: 8, log_every: 2}
"""


@pytest.mark.slow
def test_two_processes_train_one_checkpoint_and_an_interrupted_run_exits_75_and_resumes(tmp_path: Path) -> None:
    spec, home = tmp_path / "two.yaml", tmp_path / "home"
    spec.write_text(SPEC % 200_000)
    command = [sys.executable, "-m", "gridloom", "run", str(spec), "--home", str(home), "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 300
        while not any('"loss"' in path.read_text() for path in home.glob("journal/*.jsonl")):
            assert time.monotonic() < deadline
            assert run.poll() is None, run.stderr and run.stderr.read()
            time.sleep(0.1)
        run.send_signal(signal.SIGTERM)
        assert run.stderr is not None
        said = run.stderr.read()
    assert run.returncode == 75, said
    assert "saved. Continue with" in said
    step = max(row["step"] for row in Ledger(Workspace(home)).rows("select step from metrics"))
    # the key has the number of steps in it: the run that ends is another one
    short = tmp_path / "short.yaml"
    short.write_text(SPEC % 6)
    done = subprocess.run([*command[:4], str(short), *command[5:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert step > 0
    cards = [path.read_text() for path in home.glob("artifacts/*/card.md")] + [
        path.read_text() for path in home.glob("artifacts/*/manifest.json")
    ]
    assert any("2 processes" in text for text in cards)
