"""Workers on the nodes of a Slurm allocation: each is a job step that `srun` starts, joined by the pipes of its srun.

The driver lies in the allocation: in a job that `--on slurm:PARTITION` submitted, in a batch script, or under `salloc`.
All nodes see the workspace, as the jobs of a run do. The steps overlap the driver's own step, and each other.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from functools import partial

from gridloom.errors import GridloomError
from gridloom.runtime.cluster import local_workers
from gridloom.runtime.cluster.local_workers import LocalWorkers
from gridloom.stores.workspace import Workspace


def step_command(nodes: int, cpus: int, name: str, index: int, workspace: Workspace) -> list[str]:
    """Return the command line of a worker, whose place among the workers of its node is its index for devices.

    Args:
        nodes: number of nodes of the allocation; workers go to them in turn.
        cpus: processors of a step.
    """
    return [
        *("srun", "--nodes=1", "--ntasks=1", f"--relative={index % nodes}", f"--cpus-per-task={cpus}"),
        # without --overlap a step waits until the driver's own has given its processors back
        *("--overlap", "--unbuffered", "--mpi=none", f"--job-name={name}"),
        *local_workers.command(name, index // nodes, workspace),
    ]


def srun_workers(number: int | None, workspace: Workspace, environment: Mapping[str, str] = os.environ) -> LocalWorkers:
    """Return the workers of this allocation, one a node where no number is asked for.

    Raises GridloomError where this process is in no allocation, or has no srun.
    """
    try:
        nodes = int(environment["SLURM_JOB_NUM_NODES"])
    except (KeyError, ValueError):
        raise GridloomError(
            "--on srun needs an allocation of Slurm, and this process is in none (SLURM_JOB_NUM_NODES is not set)",
            "start it in one:  salloc --nodes 2 gridloom run SPEC --on srun  - or have a job made for each stage: "
            "--on PROFILE.yaml with  where: slurm:PARTITION  and  nodes: 2",
        ) from None
    if shutil.which("srun", path=environment.get("PATH")) is None:
        raise GridloomError("--on srun needs the program srun, which this node lacks", "install Slurm's client there")
    on_node = environment.get("SLURM_CPUS_ON_NODE", "")
    cpus = int(on_node) if on_node.isdecimal() else 1
    number = number or nodes
    each = max(1, cpus * nodes // number)
    return LocalWorkers(number, workspace, partial(step_command, nodes, each), nodes, "srun")
