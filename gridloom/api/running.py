"""Runs as scripts start them: what was made, stage by stage, with scores and figures as data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gridloom.api.compiling import Spec, given, seconds, stage_names
from gridloom.api.reporting import reporter
from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError
from gridloom.runtime.execution.elsewhere import place_of_run
from gridloom.runtime.execution.launch import launch
from gridloom.runtime.execution.run_outcome import RunFailed
from gridloom.runtime.execution.run_outcome import RunResult as Outcome
from gridloom.runtime.planning.local import SpecText, plan_local
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class StageResult:
    """Result of one stage of a run."""

    name: str
    """Name of the node: `arc1`, `pretrain`, `solve`, ..."""
    kind: str
    """Stage kind: arc, train, solve, ..."""
    key: str
    """Fingerprint of everything that the stage depends on."""
    status: Literal["done", "cached", "failed", "blocked"]
    """`done`: executed by this run; `cached`: made by an earlier one; `blocked`: it depends on one that failed."""
    path: Path | None
    """Folder of the artifact; None for a stage that failed or is blocked."""
    error: str = ""
    """Message or traceback of a stage that failed; for a blocked one, the stages that block it."""
    recorded_as: tuple[str, str] | None = None
    """Run and stage under which the ledger has attempts and figures of the artifact; an earlier run's if cached."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last value of each figure that the stage recorded, such as `loss`."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """Contents of `report.json` for a stage that scores; else empty."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """Result of a run, stage by stage."""

    run_id: str
    """Name of the run in the ledger."""
    name: str
    """Name of the spec."""
    seconds: float
    """Time it took, from clock to clock."""
    stages: tuple[StageResult, ...]
    """Stages in topological order."""

    @property
    def ok(self) -> bool:
        """Whether every stage is done or cached."""
        return all(stage.path is not None for stage in self.stages)

    def __getitem__(self, name: str) -> StageResult:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def _repr_html_(self) -> str:
        """Draw the stages with status and artifact, for notebooks."""
        from gridloom.api.markup import document, element, table

        rows = ((s.name, s.kind, s.status, s.error or str(s.path or "")) for s in self.stages)
        title = element("h4", f"run {self.run_id} of {self.name}, {self.seconds:.0f} s")
        return document(title, table(("stage", "kind", "status", "artifact"), rows))


def run(
    spec: Spec,
    *,
    set: Mapping[str, Any] | None = None,
    home: str | os.PathLike[str] | None = None,
    device: str | None = None,
    walltime: str | float | None = None,
    base: str | os.PathLike[str] = ".",
    check: bool = True,
    progress: bool = False,
    wait: bool = False,
    finished_early: Sequence[str] = (),
    on: str | None = None,
) -> RunResult:
    """Execute every stage of a spec that is not cached; an interrupted run continues where it stopped.

    In the main thread, SIGINT (interrupting a notebook's cell), SIGTERM, SIGUSR1 and SIGUSR2 save and stop the run.

    Args:
        spec: a path, the name of a library recipe, YAML text, a dict, or what `compile` returned.
        set: values by path, such as `{"stages.pretrain.steps": 10}`.
        home: the workspace's folder; by default $GRIDLOOM_HOME, else `.gridloom`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; overrides the spec.
        walltime: save and stop after this long: `90m`, or seconds; overrides the spec.
        base: folder that relative paths in a text or a dict start from.
        check: raise when a stage fails; without it the result has the status of each.
        progress: whether to show bars and events on the terminal.
        wait: wait for stages that another process runs, and use what it makes; else they fail.
        finished_early: trainings whose checkpoints are those that `gridloom stage finish` published.
        on: place of the workers that share the stages, as of `--on`: `local:4`, `ray`, `srun`, a profile file, or
            `here` for this process alone; overrides the spec's `where`.

    Raises:
        SpecError: the spec does not compile.
        GridloomError: the place cannot be used, or is one that takes a run over: torchrun, Slurm.
        StageError: stages failed; everything that does not depend on them was executed.
        StageInterrupted: a signal or the walltime stopped the run; calling again resumes it.
        StoreError: the disk is full, or ledger or artifacts cannot be used.
    """
    source, overrides = given(spec, set, base)
    folder = Workspace.find(None if home is None else Path(home))
    limit_s = seconds("walltime", walltime)
    return execute(source, overrides, folder, device, limit_s, check, progress, wait, finished_early, on)


def execute(
    source: str | SpecText,
    overrides: tuple[str, ...],
    folder: Workspace,
    device: str | None,
    walltime_s: float | None,
    check: bool,
    progress: bool,
    wait: bool = False,
    finished_early: Sequence[str] = (),
    on: str | None = None,
) -> RunResult:
    """Plan and run a spec of the planner's form; arguments and errors as `run`."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise GridloomError(
            "a script that calls gridloom is one of several processes that torchrun started",
            "start it as one process, or run the spec with: torchrun -m gridloom run SPEC",
        )
    planned = plan_local(source, overrides, folder, walltime_s, device, stage_names(finished_early))
    shown = source.shown if isinstance(source, SpecText) else source
    where = place_of_run(on, planned, shown).place
    if where.kind in ("torchrun", "slurm"):
        raise GridloomError(
            f"on={str(where)!r} would hand the run over to other processes, whose results this call could not return",
            f"start it by  gridloom run SPEC --on {where}  , and call this with the same spec when it is done: all "
            "stages are cached then; on='here' runs them in this process",
        )
    try:
        outcome = launch(planned, shown, overrides, folder, reporter(progress), device, walltime_s, wait, where)
    except RunFailed as failed:
        if check:
            raise
        outcome = failed.result
    return _result(outcome, planned.plan.graph, folder)


def _result(outcome: Outcome, graph: RunGraph, folder: Workspace) -> RunResult:
    made = {
        name: (str(artifact.manifest["producer"]["run_id"]), str(artifact.manifest["producer"]["stage"]))
        for name, artifact in outcome.artifacts.items()
    }
    runs = list(dict.fromkeys(run_id for run_id, _ in made.values()))
    figures: dict[tuple[str, str], dict[str, float]] = {}
    latest = "FROM v_metrics_latest WHERE run_id IN (SELECT unnest($runs)) ORDER BY name"
    for row in Ledger(folder).rows(latest, {"runs": runs}):
        figures.setdefault((row["run_id"], row["stage"]), {})[row["name"]] = row["value"]

    def stage(name: str, kind: str, key: str) -> StageResult:
        if name in outcome.failed:
            return StageResult(name, kind, key, "failed", None, outcome.failed[name])
        if name in outcome.blocked:
            return StageResult(name, kind, key, "blocked", None, f"blocked by {', '.join(outcome.blocked[name])}")
        artifact, written = outcome.artifacts[name], made[name]
        return StageResult(
            name,
            kind,
            key,
            "cached" if name in outcome.cached else "done",
            artifact.path,
            recorded_as=written,
            metrics=figures.get(written, {}),
            report=artifact.read_json("report.json") if artifact.has("report.json") else {},
        )

    stages = tuple(stage(node.name, node.kind, node.key) for node in graph.nodes)
    return RunResult(outcome.run_id, graph.name, outcome.seconds, stages)
