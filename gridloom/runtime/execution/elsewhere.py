"""Runs that start elsewhere than in this process: choice of the place, and hand-over to torchrun or Slurm."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.errors import GridloomError
from gridloom.runtime.cluster.profile import Profile, read_profile
from gridloom.runtime.cluster.torchrun import is_inside, run_under_torchrun
from gridloom.runtime.planning.local import Planned, spec_base
from gridloom.stores.workspace import Workspace


def place_of_run(on: str | None, planned: Planned, spec: str) -> Profile:
    """Return the place of a run: of `--on`, else of the spec's `where`, else this process.

    A process that torchrun started is in its place already. Raises GridloomError for a value that is no place.
    """
    if is_inside():
        return Profile(where="here")
    if on is not None:
        return read_profile(on)
    written = planned.compiled.spec.where
    return Profile(where="here") if written is None else read_profile(written, spec_base(spec))


def hand_over(
    profile: Profile, planned: Planned, arguments: Sequence[str], workspace: Workspace, only: Sequence[str] = ()
) -> tuple[int, list[str]] | None:
    """Start a run under torchrun or on Slurm; return its exit status and lines to print, None for any other place.

    Args:
        arguments: arguments of `gridloom run` without `--on` and `--only`.
        only: stages that the run is restricted to; all when empty.

    Raises GridloomError: the place cannot be used, or a stage cannot run there.
    """
    place = profile.place
    if place.kind == "torchrun":
        restricted = [word for name in only for word in ("--only", name)]
        return run_under_torchrun(place.num_workers or 1, ["run", *arguments, *restricted]), []
    if place.kind == "slurm":
        from gridloom.runtime.cluster.slurm import submit

        to_run = [stage.node for stage in planned.plan.stages if stage.state == "run"]
        if not to_run:
            raise GridloomError("all stages are cached, so that Slurm has nothing to run", "run without --on")
        logs = workspace.ensure(workspace.root / "slurm")
        jobs = submit(profile, planned.plan.graph, to_run, arguments, logs, only)
        lines = [job.line() for job in jobs]
        lines.append(f"{len(jobs)} submissions; the last one prints the results: {logs}/{jobs[-1].job_id}_0_log.out")
        return 0, lines
    return None
