"""Runs on Slurm by submitit: a job for each stage, an array for the variants of one, dependencies between them.

A job runs `gridloom run SPEC --only STAGE`. Before its limit Slurm signals the job by SIGUSR2; the run saves its state
as ever, and submitit queues the job again. A job that is preempted by SIGTERM saves, too, and Slurm queues it again.
Each job indexes the shared journals in a ledger of its own on its node's disk: no DuckDB file is opened by two hosts.
Where a profile asks for several nodes, the job of a stage that splits starts workers on all of them (`srun_workers`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from gridloom.compiler.graph import RunGraph, StageNode, section_name
from gridloom.errors import GridloomError, StageInterrupted
from gridloom.runtime.cluster.profile import Profile
from gridloom.runtime.stage import SPLIT
from gridloom.stores.workspace import LEDGER_VARIABLE

INTERRUPTED = StageInterrupted.exit_code
"""Exit status of a run that saved its state."""
MOST_REQUEUES = 1000
"""Number of times that a job may reach its limit and be queued again."""


GRACE_S = 600.0
"""Longest time that a job which got SIGTERM waits, saved, for its end by Slurm: a partition's grace, s."""


@dataclass
class StageJob:
    """Callable of a Slurm job: runs one stage in a child process, and signals it to save when Slurm signals the job."""

    arguments: tuple[str, ...]
    """Arguments of `gridloom run` up to the stages."""
    stages: tuple[str, ...]
    """Stages that the run is restricted to; empty for all."""
    folder: str
    """Working folder, from which relative paths start."""
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _is_ending: bool = field(default=False, repr=False)
    """Whether SIGTERM has come: Slurm ends the job after the grace of its partition, or it was cancelled."""

    def __call__(self) -> str:
        """Run the stage until it is done. Raises RuntimeError for a run that failed, so that no dependent starts."""
        only = [word for name in self.stages for word in ("--only", name)]
        command = [sys.executable, "-m", "gridloom", "run", *self.arguments, *only]
        self._forward_sigterm()
        with tempfile.TemporaryDirectory(prefix="gridloom-ledger-") as ledger:
            environment = {**os.environ, LEDGER_VARIABLE: ledger}
            while True:
                self._child = subprocess.Popen(command, cwd=self.folder, env=environment)
                if self._is_ending:  # the signal came while the child was not yet known to its handler
                    self._child.send_signal(signal.SIGUSR1)
                status = self._child.wait()
                # a walltime of the spec is no reason to give the node back, and a signal that came before the run
                # could catch it ended a run that had begun nothing
                if status not in (INTERRUPTED, -signal.SIGUSR1):
                    break
                if self._is_ending:  # were it to fail or to go on, Slurm would not queue it again where it was
                    self._is_ending = False
                    time.sleep(GRACE_S)
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {status}")
        return ", ".join(self.stages)

    def checkpoint(self) -> Any:
        """Have the run save its state, and return the same job for another time; submitit calls this on the signal."""
        import submitit

        if self._child is not None and self._child.returncode is None:
            self._child.send_signal(signal.SIGUSR1)
            # the signal interrupted a `wait` that holds the lock of Popen: a second one would wait for ever
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(StageJob(self.arguments, self.stages, self.folder))

    def _forward_sigterm(self) -> None:
        """Have the run save its state on SIGTERM, which submitit only logs, and which may reach this process alone."""
        before = signal.getsignal(signal.SIGTERM)

        def forward(number: int, frame: FrameType | None) -> None:
            self._is_ending = True
            if self._child is not None and self._child.returncode is None:
                self._child.send_signal(signal.SIGUSR1)
            if callable(before):
                before(number, frame)

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, forward)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_child": None}


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job or an array of jobs that was submitted."""

    job_id: str
    """Id of the job, or of the array."""
    stages: tuple[str, ...]
    """Stages, one for each job of an array; empty for the job that shows the results."""
    after: tuple[str, ...]
    """Ids of the jobs that it waits for."""

    def line(self) -> str:
        """Return the submission as one line of text."""
        what = "results" if not self.stages else self.stages[0] if len(self.stages) == 1 else _names(self.stages)
        return f"{self.job_id}  {what}" + (f"  after {', '.join(self.after)}" if self.after else "")


def _names(stages: Sequence[str]) -> str:
    return f"{len(stages)} of {section_name(stages[0]).partition('@')[0]}: {stages[0]} ... {stages[-1]}"


def groups(graph: RunGraph, to_run: Sequence[StageNode]) -> list[list[StageNode]]:
    """Return the stages to run in groups, in an order in which every group's inputs lie before it.

    A group is one stage, or the variants of one that a sweep made: same section, same number of steps from the start.
    """
    names = {node.name for node in to_run}
    depth: dict[str, int] = {}
    found: dict[tuple[int, str], list[StageNode]] = {}
    for node in graph.nodes:
        if node.name in names:
            depth[node.name] = 1 + max((depth[i] for i in node.inputs.values() if i in depth), default=-1)
            found.setdefault((depth[node.name], node.name.partition("@")[0]), []).append(node)
    return [found[key] for key in sorted(found, key=lambda key: key[0])]


def submit(
    profile: Profile,
    graph: RunGraph,
    to_run: Sequence[StageNode],
    arguments: Sequence[str],
    logs: Path,
    only: Sequence[str] = (),
) -> list[Submitted]:
    """Submit the stages of a run, and a last job that shows the results; return the jobs in order.

    Args:
        arguments: arguments of `gridloom run` without `--on` and `--only`.
        only: stages that the run is restricted to; all when empty.
        logs: folder on the shared disk for submitit's files and the output of the jobs.

    Raises GridloomError: submitit is not installed, there is no Slurm here, or sbatch refuses.
    """
    try:
        import submitit
    except ImportError as error:
        raise GridloomError("--on slurm needs the package submitit", "pip install 'gridloom[slurm]'") from error
    made: list[Submitted] = []
    job_of: dict[str, str] = {}
    for group in [*groups(graph, to_run), []]:
        after = sorted({job_of[name] for node in group for name in node.inputs.values() if name in job_of})
        if not group:
            after = sorted(set(job_of.values()))
        jobs = jobs_of(profile, group, arguments, only)
        try:
            executor = submitit.SlurmExecutor(folder=logs, max_num_timeout=MOST_REQUEUES)
            executor.update_parameters(**parameters(profile, group, after))
            if len(jobs) == 1:
                ids = [executor.submit(jobs[0]).job_id]
            else:
                with executor.batch():
                    entered = [executor.submit(job) for job in jobs]
                ids = [job.job_id for job in entered]
        except (RuntimeError, submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError) as error:
            raise GridloomError(
                f"Slurm does not take {', '.join(node.name for node in group) or 'the last job'}: {error}",
                "check the partition with  sinfo , and what the profile asks for; jobs submitted before it wait: "
                + (", ".join(job.job_id for job in made) or "none"),
            ) from error
        whole = ids[0].partition("_")[0]
        job_of.update({node.name: whole for node in group})
        made.append(Submitted(whole, tuple(node.name for node in group), tuple(after)))
    return made


def jobs_of(
    profile: Profile, group: Sequence[StageNode], arguments: Sequence[str], only: Sequence[str] = ()
) -> list[StageJob]:
    """Return a job for each stage of a group; of an empty group the job that shows the results of the run."""
    if group:
        return [_job(arguments, profile, node) for node in group]
    return [StageJob((*arguments, "--on", "here"), tuple(only), str(Path.cwd()))]


def _job(arguments: Sequence[str], profile: Profile, node: StageNode) -> StageJob:
    on = "here"
    if node.kind in SPLIT and profile.nodes > 1:
        on = f"srun:{profile.nodes * (profile.workers or 1)}"
    elif node.kind in SPLIT and profile.workers:
        on = f"local:{profile.workers}"
    return StageJob((*arguments, "--on", on), (node.name,), str(Path.cwd()))


def parameters(profile: Profile, group: Sequence[StageNode], after: Sequence[str]) -> dict[str, Any]:
    """Return submitit's parameters of a job: requests, dependencies, and the signal before its end."""
    more: dict[str, Any] = {"kill_on_invalid_dep": "yes", **profile.slurm}
    nodes = profile.nodes if group and group[0].kind in SPLIT else 1
    if after:
        more["dependency"] = f"afterok:{':'.join(after)}"
    return {
        "partition": profile.place.address,
        "job_name": f"gridloom-{group[0].name.partition('@')[0]}" if group else "gridloom-results",
        "time": profile.minutes,
        "nodes": nodes,
        "ntasks_per_node": 1,
        # submitit starts its function by srun, on every node unless it is limited: the others are the workers'
        "srun_args": ["--nodes=1", "--ntasks=1", f"--cpus-per-task={profile.cpus}"],
        "cpus_per_task": profile.cpus,
        "mem": profile.memory,
        **({"gpus_per_node": profile.gpus} if profile.gpus else {}),
        "signal_delay_s": profile.notice_s,
        "setup": [*profile.setup] or None,
        "additional_parameters": more,
    }
