"""Compilation and planning of a spec with the facts of this machine and of a workspace."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gridloom.compiler.compile import Compiled, compile_spec, compile_text
from gridloom.compiler.device_speeds import MachineSpeeds
from gridloom.errors import GridloomError
from gridloom.runtime.machine.speeds import load_speeds
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.specs.walltime import walltime_seconds

if TYPE_CHECKING:
    from gridloom.runtime.planning.plan import RunPlan
    from gridloom.stores.workspace import Workspace


class SpecText(NamedTuple):
    """A spec that is in no file."""

    text: str
    """YAML."""
    shown: str
    """How diagnostics and the ledger name it: a path that ends in .yaml, which need not exist; relative paths of the
    spec start from its folder."""


class Planned(NamedTuple):
    """Compiled spec with its plan."""

    compiled: Compiled
    plan: RunPlan
    speeds: MachineSpeeds


def plan_local(
    spec: str | SpecText,
    overrides: Sequence[str],
    workspace: Workspace,
    walltime_s: float | None = None,
    device: str | None = None,
    finished_early: Sequence[str] = (),
) -> Planned:
    """Compile a spec and look up which of its stages are published in the workspace.

    Memory and walltime are checked for the stages that will run, on `device` if given.

    Args:
        finished_early: trainings whose checkpoints are those that were finished early.
    """
    # compiling alone needs no artifact store
    from gridloom.runtime.planning.finished_early import use_finished
    from gridloom.runtime.planning.plan import make_plan
    from gridloom.runtime.planning.rekey import open_store

    store = open_store(workspace)
    speeds = load_speeds()
    compiled = _compile(
        spec,
        overrides,
        speeds,
        walltime_s=walltime_s,
        device=device,
        is_cached=lambda key: store.find(key) is not None,
    )
    graph = compiled.graph
    if finished_early:
        graph = use_finished(graph, finished_early, store, spec if isinstance(spec, str) else spec.shown)
    return Planned(compiled, make_plan(graph, store, compiled.place), speeds)


def _compile(
    spec: str | SpecText,
    overrides: Sequence[str],
    speeds: MachineSpeeds,
    walltime_s: float | None = None,
    device: str | None = None,
    is_cached: Callable[[str], bool] | None = None,
) -> Compiled:
    run = (
        partial(compile_text, spec.text, spec.shown, path=Path(spec.shown))
        if isinstance(spec, SpecText)
        else partial(compile_spec, spec)
    )
    return run(
        overrides=overrides,
        facts=LocalFacts(),
        speeds=speeds,
        walltime_s=walltime_s,
        device=device,
        is_cached=is_cached,
    )


def spec_base(spec: str) -> Path:
    """Return the base folder of a spec's relative paths: its own folder, or the current folder for a recipe."""
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


def compile_local(spec: str | SpecText, overrides: Sequence[str] = ()) -> Compiled:
    """Compile a spec file, library recipe or text with facts of this machine's files and measured device speeds.

    Raises:
        SpecError: with every problem found.
    """
    return _compile(spec, overrides, load_speeds())


RECIPE = "solve-task"
SUBSET = "tasks"
"""Subset name of a plain file's tasks."""


def is_task_file(spec: str) -> bool:
    """Return whether an argument names a task file rather than a spec."""
    return Path(spec).suffix == ".json"


def task_overrides(file: str, budget: str | None) -> list[str]:
    """Turn a task file and a budget into overrides of the recipe. Raises GridloomError for an invalid budget.

    Test outputs in the file are held out and used only to score the picks. The compiler reports a file that is missing
    or is not a task.
    """
    from gridloom.compiler.text.write import override_text

    source = file if Path(file).is_absolute() else f"./{Path(file)}"
    found = [
        override_text("data.task.source", source),
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
    """Return whether every test has an output; True for a file that is not a task, which the compiler reports."""
    try:
        return all("output" in pair for pair in json.loads(file.read_text(encoding="utf-8"))["test"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
