"""Plan a spec with the facts of this machine and of a workspace, start a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.compiler.compile import Compiled, compile_spec
from gridloom.compiler.device_speeds import Calibrations
from gridloom.errors import GridloomError
from gridloom.runtime.machine.speeds import load_calibrations
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.planning.plan import RunPlan, make_plan
from gridloom.runtime.planning.rekey import open_store
from gridloom.specs.walltime import walltime_seconds
from gridloom.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Planned:
    """A compiled spec and what running it would do."""

    compiled: Compiled
    plan: RunPlan
    calibrations: Calibrations


def plan_local(
    spec: str,
    overrides: Sequence[str],
    workspace: Workspace,
    walltime_s: float | None = None,
    device: str | None = None,
) -> Planned:
    """Compile a spec and look up which of its stages are already published in the workspace.

    Memory and walltime are checked for the stages that will run, on `device` where it is given.
    """
    store = open_store(workspace)
    calibrations = load_calibrations()
    compiled = compile_spec(
        spec,
        overrides,
        facts=LocalFacts(),
        calibration=calibrations,
        walltime_s=walltime_s,
        device=device,
        is_cached=lambda key: store.find(key) is not None,
    )
    return Planned(compiled, make_plan(compiled.graph, store, compiled.place), calibrations)


def spec_base(spec: str) -> Path:
    """Return the folder that relative paths of a spec start from: its own, or the current one for a recipe."""
    path = Path(spec)
    return path.parent if path.suffix in {".yaml", ".yml"} or path.is_file() else Path()


def solve_overrides(spec: str, overrides: Sequence[str], split: str | None, limit: int | None) -> list[str]:
    """Turn `--split` and `--limit` into overrides of every solve stage of the spec.

    Raises:
        SpecError: the spec does not compile, or has no solve stage.
    """
    stages = compile_local(spec, overrides).spec.stages
    solves = [name for name, stage in stages.items() if stage.kind == "solve"]
    if not solves:
        raise GridloomError(
            f"{spec} has no stage of kind solve", "add one, or use `gridloom run` for specs that only train"
        )
    wanted = {"split": split, "limit": limit}
    return [f"stages.{name}.{field}={value}" for name in solves for field, value in wanted.items() if value is not None]


def compile_local(spec: str, overrides: Sequence[str] = ()) -> Compiled:
    """Compile a spec file or library recipe with facts read from this machine's files and its calibration.

    Raises:
        SpecError: with every problem found.
    """
    return compile_spec(spec, overrides, facts=LocalFacts(), calibration=load_calibrations())


RECIPE = "solve-task"
SUBSET = "tasks"
"""What a plain file's tasks are counted under."""


def is_task_file(spec: str) -> bool:
    """Say whether an argument names a task file rather than a spec."""
    return Path(spec).suffix == ".json"


def task_overrides(file: str, budget: str | None) -> list[str]:
    """Turn a task file and a budget into overrides of the recipe. Raises GridloomError for a budget that is no time.

    Where the file has the test outputs, they are held out and the picks scored by them. Whether it is there, and a
    task, is for the compiler to say.
    """
    source = file if Path(file).is_absolute() else f"./{Path(file)}"
    found = [
        f"data.task.source={source}",
        f"data.task.subsets=[{SUBSET}]",
        f"data.task.holdout=[{SUBSET}]",
        "data.task.select.ids=[]",
    ]
    if budget is not None:
        try:
            seconds = walltime_seconds(budget)
        except ValueError as error:
            raise GridloomError(f"--budget {error}") from None
        if seconds <= 0:
            raise GridloomError(f"--budget {budget} leaves no time to learn the task", "write 60s, or 5m")
        found.append(f"vars.budget={budget}")
    return found if _has_answers(Path(file)) else [*found, "stages.score=null"]


def _has_answers(file: Path) -> bool:
    """Say whether every test has its output; a file that is no task keeps the stage that would read them."""
    try:
        return all("output" in pair for pair in json.loads(file.read_text(encoding="utf-8"))["test"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
