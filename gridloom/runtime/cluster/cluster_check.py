"""Check of a cluster: one tiny item on every worker, which says what it is, has and can write."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.messages import host
from gridloom.runtime.cluster.worker import Flag
from gridloom.runtime.stage import Job, StageContext
from gridloom.stores.artifacts import Artifact
from gridloom.version import __version__

PLACE = f"{__name__}:Check"
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "afs", "9p"}
"""File systems on which the DuckDB file of a ledger can be damaged, since their locks and caches are those of hosts."""


class Check:
    """Half of the check that workers load."""

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> CheckWorker:
        """Return the object that answers."""
        return CheckWorker(context, shared)


class CheckWorker:
    """Answers what a worker is."""

    slots = 1

    def __init__(self, context: StageContext, shared: Mapping[str, Any]) -> None:
        self._context, self._root = context, Path(shared["root"])

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return versions, devices, memory, write access and the clock of this worker."""
        import torch

        spool = self._context.ledger.workspace.root
        count = torch.cuda.device_count()
        names = [torch.cuda.get_device_name(index) for index in range(count)]
        return {
            "host": host(),
            "gridloom": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "devices": names or [f"{len(os.sched_getaffinity(0))} processors"],
            "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "sees_workspace": self._root.is_dir(),
            "writes": _writes(self._root if self._root.is_dir() else spool.parent),
            "free_bytes": shutil.disk_usage(spool.parent).free,
            "clock": time.time(),
        }


def _writes(folder: Path) -> str:
    """Try to write in a folder; return the reason why not, empty where it is possible."""
    path = folder / f".check-{host()}-{os.getpid()}"
    try:
        path.write_bytes(b"gridloom")
        path.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def check_cluster(crew: Crew, root: Path) -> list[dict[str, Any]]:
    """Have every worker of a crew answer; return the answers by worker, with the difference of clocks, s.

    Every worker gets one item: an item holds its worker for as long as the others take to come up.
    """
    node = StageNode(name="check", kind="check", version=1, produces="report", key="gl1:check", spec={"kind": "check"})
    job = Job(PLACE, node, {}, "cluster-check", "cpu", root, root, {"root": str(root)})
    found: dict[str, dict[str, Any]] = {}

    def take(item: str, answer: Mapping[str, Any]) -> None:
        found[item] = {**answer, "ahead_s": answer["clock"] - time.time()}

    names = crew.workers.names
    crew.run(job, names, lambda item, lost: {}, take, Flag(), own=True)
    return [{"worker": name, **found[name]} for name in names if name in found]


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder by the mounts of this machine; empty where that is unknown."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    best, kind = "", ""
    where = folder.resolve().as_posix()
    for line in mounts:
        parts = line.split()
        if len(parts) > 2:
            point = parts[1].replace("\\040", " ")
            inside = where == point or where.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, parts[2]
    return kind


def remote_file_system(folder: Path) -> str:
    """Return the type of a network file system that holds a folder, empty for a local one."""
    kind = file_system(folder)
    return kind if kind in REMOTE else ""
