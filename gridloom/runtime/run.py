"""Run a planned spec: for the command line and for scripts."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.runtime.executor import RunOptions, execute
from gridloom.runtime.project import Planned, spec_base
from gridloom.runtime.run_outcome import RunResult
from gridloom.runtime.stage import Progress, StopSignal
from gridloom.stores.workspace import Workspace


def run_local(
    planned: Planned,
    spec: str,
    overrides: Sequence[str],
    workspace: Workspace,
    progress: Progress,
    stop: StopSignal,
    device: str | None = None,
) -> RunResult:
    """Execute a plan made by `plan_local`. Raises what `execute` does: RunFailed where stages failed."""
    calibration = planned.calibrations.of(device or planned.plan.graph.device)
    options = RunOptions(
        base=spec_base(spec), spec=spec, overrides=tuple(overrides), device=device, calibration=calibration
    )
    return execute(planned.plan, workspace, options, progress, stop)
