"""Signals that come while a run is being started: a Slurm job's run, and the processes of torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PATIENCE_S = 60.0

CATCHES = """
import os, signal, sys, time
def save(*_):
    open({place!r} + "/saved", "w").close()
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
open({place!r} + f"/started-{{os.getpid()}}", "w").close()
time.sleep(60)
"""
"""Run that saves its state on the signal of its job."""
DEAF = """
import os, time
open({place!r} + f"/started-{{os.getpid()}}", "w").close()
time.sleep(60)
"""
"""Run that is still importing: the signal ends it."""
JOB = """
import os, signal, subprocess, sys, time, types
from pathlib import Path
from gridloom.runtime.cluster import slurm
real = subprocess.Popen
def popen(command, **more):
    child = real([sys.executable, {script!r}], **more)
    while not Path({place!r}, f"started-{{child.pid}}").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)  # while the constructor has not yet returned
    return child
slurm.subprocess.Popen = popen
slurm.time = types.SimpleNamespace(sleep=lambda seconds: os._exit(7))
slurm.StageJob((), ("solve",), {place!r})()
"""
"""Job whose SIGTERM comes in the moment in which its run is started; it ends with 7 when it waits for Slurm."""


@pytest.mark.parametrize("catches", [True, False])
def test_sigterm_in_the_moment_of_a_start_saves_the_run_and_the_job_waits_for_slurm(
    tmp_path: Path, catches: bool
) -> None:
    script = tmp_path / "run.py"
    script.write_text((CATCHES if catches else DEAF).format(place=str(tmp_path)))
    code = JOB.format(script=str(script), place=str(tmp_path))
    job = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S / 2, capture_output=True, text=True)
    assert job.returncode == 7, job.stderr
    assert (tmp_path / "saved").exists() is catches


RANK = """
import os, signal, sys
from pathlib import Path
from gridloom import plugins
from gridloom.runtime.cluster import rank
def importing(place):
    os.kill(os.getpid(), signal.{name})  # the driver knows the process, which has not yet begun the run
    raise AssertionError("the signal was lost")
plugins.load_place = importing
rank.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_first_rank_that_is_signalled_while_it_imports_reports_an_interrupted_run(tmp_path: Path, name: str) -> None:
    report = tmp_path / "rank-0"
    environment = {**os.environ, "RANK": "0", "GRIDLOOM_RANK_REPORT": str(report)}
    done = subprocess.run(
        [sys.executable, "-c", RANK.format(name=name)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 75, done.stderr
    assert report.read_text().splitlines()[-1] == "status 75"


DRIVER = """
import os, signal, subprocess, sys
from gridloom.runtime.cluster import torchrun
real = subprocess.Popen
def popen(command, **more):
    child = real([sys.executable, "-c", "import time; time.sleep(60)"], **more)
    {before}os.kill(os.getpid(), signal.{name})
    return child
torchrun.subprocess.Popen = popen
{after}
sys.exit(torchrun.run_under_torchrun(2, ["run", "x"]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_in_the_moment_of_a_start_ends_torchrun_and_is_an_interrupted_run(name: str) -> None:
    code = DRIVER.format(before="", after="", name=name)
    began = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S / 2)
    assert began.returncode == 75, began.stderr


def test_a_signal_before_the_first_rank_is_known_ends_torchrun_and_is_an_interrupted_run() -> None:
    code = DRIVER.format(
        before="# ",
        after="import threading\nthreading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()",
        name="SIGUSR1",
    )
    began = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S / 2)
    assert began.returncode == 75, began.stderr
