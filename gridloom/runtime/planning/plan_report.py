"""A plan as data: each stage with its state, the reason and what it is expected to cost; for `--json` and scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from gridloom.compiler.diff import Change
from gridloom.compiler.graph import Cost
from gridloom.compiler.render import to_data
from gridloom.diagnostics import Diagnostic
from gridloom.runtime.planning.local import Planned
from gridloom.runtime.planning.plan import PlannedStage, State


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Stage of a plan as data: its state, the reason, and estimates."""

    stage: str
    """Name of the node: `arc1`, `arc1.answers`, `pretrain`, ..."""
    kind: str
    """Stage kind: arc, train, solve, ..."""
    key: str
    """Fingerprint of everything that the stage depends on."""
    state: State
    """`cached` or `run`."""
    why: str
    """Reason for running, on one line; for a cached stage empty, or that it was finished early."""
    changes: tuple[Change, ...]
    """Fields that differ from the nearest earlier artifact of this stage's name and kind."""
    because: tuple[str, ...]
    """Input stages that will run."""
    cost: Cost | None
    """Estimate of parameters, operations, steps and peak memory; None for a stage without a cost model."""
    expected_s: float | None
    """Seconds that the stage is expected to take; None for a cached stage and on an uncalibrated device."""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """Plan of a run as data."""

    name: str
    """Name of the spec."""
    key: str
    """Fingerprint of the whole graph."""
    stages: tuple[StagePlan, ...]
    """Stages in topological order."""
    calibration: str
    """`calibrated`, or why times are not known and what to type."""
    walltime_s: float | None
    """Limit in seconds that the run would have; None for no limit."""
    warnings: tuple[Diagnostic, ...] = ()
    """Warnings of the compiler."""

    @property
    def num_to_run(self) -> int:
        """Number of stages that would run."""
        return sum(stage.state == "run" for stage in self.stages)

    def to_data(self) -> dict[str, Any]:
        """Return the plan as plain data, versioned: what `gridloom plan --json` prints."""
        return {
            "format_version": 1,
            "name": self.name,
            "key": self.key,
            "calibration": self.calibration,
            "walltime_s": self.walltime_s,
            "warnings": to_data(self.warnings)["diagnostics"],
            "stages": [
                {
                    "stage": stage.stage,
                    "kind": stage.kind,
                    "key": stage.key,
                    "state": stage.state,
                    "why": stage.why,
                    "changes": [str(change) for change in stage.changes],
                    "reasons": [change_data(change) for change in stage.changes],
                    "because": list(stage.because),
                    "cost": stage.cost.model_dump(mode="json") if stage.cost else None,
                    "expected_s": stage.expected_s,
                }
                for stage in self.stages
            ],
        }


def plan_report(planned: Planned, device: str | None = None, walltime_s: float | None = None) -> PlanReport:
    """Return a plan as data, with times on `device` (default: the spec's) and the limit that overrides the spec's."""
    graph, machine = planned.plan.graph, planned.speeds
    where = device or graph.device
    speeds = machine.of(where)

    def stage_plan(stage: PlannedStage) -> StagePlan:
        return StagePlan(
            stage=stage.node.name,
            kind=stage.node.kind,
            key=stage.node.key,
            state=stage.state,
            why=stage.why,
            changes=stage.changes,
            because=stage.because,
            cost=stage.node.cost,
            expected_s=stage.expected_seconds(speeds),
        )

    return PlanReport(
        name=graph.name,
        key=graph.key,
        stages=tuple(map(stage_plan, planned.plan.stages)),
        calibration="calibrated" if speeds else machine.why_not(where),
        walltime_s=planned.compiled.spec.walltime_s if walltime_s is None else walltime_s,
        warnings=planned.compiled.warnings,
    )


def change_data(change: Change) -> dict[str, Any]:
    """Return one change as plain data."""
    return {
        "field": change.field,
        "change": type(change).__name__.lower(),
        "before": getattr(change, "before", None),
        "after": getattr(change, "after", None),
        "at": asdict(change.span) if change.span else None,
    }
