"""Training on several processes of this machine: `torchrun` starts them, and the run is the first of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from gridloom.errors import StageInterrupted
from gridloom.progress import STOPPING

REPORT = "GRIDLOOM_RANK_REPORT"
"""Variable with the path of the file in which rank 0 reports its process id and its exit status."""


INTERRUPTED = StageInterrupted.exit_code
"""Exit status of a run that saved its state, or that a signal ended before it began."""


def is_inside() -> bool:
    """Return whether torchrun, or a launcher that sets the same variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def run_under_torchrun(number: int, arguments: Sequence[str]) -> int:
    """Run `gridloom ARGUMENTS` as `number` processes that train together; return the exit status.

    Signals go to the first process alone, which saves the state: torchrun would give all processes 30 s and kill them.
    The status is that of the first process, 75 for a run that was interrupted and can be resumed, where torchrun has
    one status for every failure.
    """
    environment = {**os.environ}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // number)))
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number)),
        *("-m", "gridloom.runtime.cluster.rank", *arguments),
    ]
    with tempfile.TemporaryDirectory(prefix="gridloom-torchrun-") as folder:
        report = Path(folder) / "rank-0"
        report.touch()
        environment[REPORT] = str(report)
        launcher = _Launcher(report)
        previous = {signum: signal.signal(signum, launcher.forward) for signum in STOPPING}
        try:
            # a session of its own: a terminal's Ctrl-C comes to this process, which passes it on to the first rank
            launcher.process = subprocess.Popen(command, env=environment, start_new_session=True)
            if launcher.signum is not None:  # it came while the process was not yet known to its handler
                launcher.forward(launcher.signum, None)
            ended = launcher.process.wait()
        finally:
            for signum, handler in previous.items():
                signal.signal(signum, handler)
        return reported(report).get("status", ended if launcher.signum is None else INTERRUPTED)


@dataclass(slots=True)
class _Launcher:
    """The process `torchrun`, and what signals do to it."""

    report: Path
    process: subprocess.Popen[bytes] | None = None
    signum: int | None = None
    """Last signal that came."""

    def forward(self, signum: int, frame: FrameType | None) -> None:
        """Pass a signal on to the first rank; before that has said who it is, end torchrun, which ends all ranks."""
        self.signum = signum
        pid = reported(self.report).get("pid")
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signum)
            elif self.process is not None:
                self.process.terminate()  # of the other signals it takes no notice, and its ranks would outlive it


def reported(report: Path) -> dict[str, int]:
    """Return what rank 0 has reported so far: `pid`, and `status` when it has ended."""
    # a signal may come while a line is being written
    lines = report.read_text(encoding="ascii").splitlines(keepends=True)
    pairs = (line.split() for line in lines if line.endswith("\n"))
    return {word: int(value) for word, value in pairs}
