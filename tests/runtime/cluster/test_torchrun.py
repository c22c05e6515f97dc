"""Runs that `--on torchrun:N` starts: N processes train together, and the exit status is that of the run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace
from tests.campaign.workers import children

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


def kill_below(pid: int) -> None:
    """Kill a process and all below it, as a node that is lost does."""
    below = children(pid)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    for child in below:
        kill_below(child)


@pytest.mark.slow
def test_a_lost_node_ends_the_run_and_the_requeued_job_goes_on_with_four_processes(tmp_path: Path) -> None:
    """Two nodes by the page's line: the same endpoint, another rendezvous id, another number of processes."""
    spec, home = tmp_path / "two.yaml", tmp_path / "home"
    spec.write_text((SPEC % 600).replace("log_every: 2}", "log_every: 2, checkpoint_every: 10}"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "gridloom", "run", str(spec), "--home", str(home), "-q", "--on", "here"]

    def node(processes: int, job: str) -> subprocess.Popen[str]:
        meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id={job}", "--local-addr=127.0.0.1"]
        line = [*("-m", "torch.distributed.run", "--nnodes=2", f"--nproc-per-node={processes}"), *meeting]
        return subprocess.Popen(
            [sys.executable, *line, "--no-python", *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    nodes = [node(1, "7-0"), node(1, "7-0")]
    try:
        deadline = time.monotonic() + 600
        while not [*home.glob("work/*/state-*")]:
            assert time.monotonic() < deadline
            assert all(one.poll() is None for one in nodes)
            time.sleep(0.02)
        kill_below(nodes[1].pid)
        nodes[1].communicate()
        printed = nodes[0].communicate(timeout=600)[0]
        assert nodes[0].returncode != 0, printed
        before = max(row["step"] for row in Ledger(Workspace(home)).rows("select step from metrics"))
        assert before < 600, "the node was lost too late"
        nodes = [node(2, "7-1"), node(2, "7-1")]
        printed = "".join(one.communicate(timeout=600)[0] for one in nodes)
        assert [one.returncode for one in nodes] == [0, 0], printed
    finally:
        for one in nodes:
            kill_below(one.pid)
            one.wait()
            assert one.stdout is not None
            one.stdout.close()
    rows = Ledger(Workspace(home)).rows("select step from metrics where name = 'loss' order by step")
    assert [row["step"] for row in rows] == [*range(2, 601, 2)]
    (run,) = Ledger(Workspace(home)).rows("select status, processes from v_runs")
    assert run == {"status": "done", "processes": 2}
    assert any("4 processes" in path.read_text() for path in home.glob("artifacts/*/manifest.json"))
