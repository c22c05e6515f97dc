"""Check of a place before a run: its workers answer, and the ledger lies on a disk of this machine."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from gridloom.errors import GridloomError
from gridloom.runtime.cluster.cluster_check import check_cluster, remote_file_system
from gridloom.runtime.cluster.crew import Crew
from gridloom.runtime.cluster.messages import MAX_SKEW_S
from gridloom.runtime.cluster.profile import read_profile
from gridloom.runtime.cluster.shipped import Shipped
from gridloom.runtime.execution.crew_of_run import workers_of
from gridloom.stores.workspace import LEDGER_VARIABLE, Workspace


def checked_cluster(on: str, workspace: Workspace) -> tuple[list[dict[str, Any]], list[str]]:
    """Have every worker of a place answer; return the answers, and the problems as lines of text.

    Raises GridloomError: no such place, it cannot be reached, or a worker runs another gridloom.
    """
    place = read_profile(on).place
    if place.kind not in ("local", "ray", "srun"):
        raise GridloomError(
            f"{place} has no workers to check before a job runs",
            "check local:N or ray; for Slurm ask in an allocation:  salloc --nodes 2 gridloom cluster check --on srun",
        )
    workspace.ensure()
    problems: list[str] = []
    with ExitStack() as stack:
        workers = workers_of(place, workspace)
        shipped = Shipped(workspace) if workers.ships_journals else None
        if shipped is not None:
            stack.callback(shipped.close)
        crew = Crew(workers, "cpu", problems.append, journals=shipped)
        stack.callback(crew.close)
        rows = check_cluster(crew, workspace.root)
    for row in rows:
        if row["writes"]:
            problems.append(f"{row['worker']} on {row['host']} cannot write: {row['writes']}")
        if abs(row["ahead_s"]) > MAX_SKEW_S and not any(row["worker"] in line for line in problems):
            problems.append(
                f"the clock of {row['host']} differs by {row['ahead_s']:+.0f} s: times in the ledger do, too"
            )
    if kind := remote_file_system(workspace.ledger_path.parent):
        problems.append(
            f"the ledger {workspace.ledger_path} lies on {kind}, where DuckDB files are damaged sooner or later: set "
            f"{LEDGER_VARIABLE} to a folder on a disk of this machine"
        )
    return rows, problems
