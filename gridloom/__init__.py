"""gridloom: declarative recursive-reasoning research on ARC-AGI and its sister puzzles.

The names in `__all__` are the public API, for scripts and notebooks (docs/python.md); each is imported when it is first
used, so that `import gridloom` stays light. Everything else may change with any version.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gridloom.version import __version__

if TYPE_CHECKING:
    from gridloom.api.attempts import Attempt
    from gridloom.api.compiling import Compiled, Problem, compile
    from gridloom.api.grids import Grid, Pair, Task
    from gridloom.api.running import RunResult, StageResult, run
    from gridloom.api.scores import ScoreTable
    from gridloom.api.solving import SolveResult, solve
    from gridloom.api.workspaces import Workspace, workspace
    from gridloom.compiler.graph import RunGraph
    from gridloom.errors import (
        DataError,
        GridloomError,
        ModelError,
        PluginError,
        ReplayError,
        SpecError,
        StageError,
        StageInterrupted,
        StoreError,
    )
    from gridloom.runtime.planning.plan_report import PlanReport, StagePlan
    from gridloom.solvers.replay.report import ReplayReport

__all__ = [
    "Attempt",
    "Compiled",
    "DataError",
    "Grid",
    "GridloomError",
    "ModelError",
    "Pair",
    "PlanReport",
    "PluginError",
    "Problem",
    "ReplayError",
    "ReplayReport",
    "RunGraph",
    "RunResult",
    "ScoreTable",
    "SolveResult",
    "SpecError",
    "StageError",
    "StageInterrupted",
    "StagePlan",
    "StageResult",
    "StoreError",
    "Task",
    "Workspace",
    "__version__",
    "compile",
    "run",
    "solve",
    "workspace",
]

_MODULES = {
    "gridloom.api.attempts": ("Attempt",),
    "gridloom.api.compiling": ("Compiled", "Problem", "compile"),
    "gridloom.api.grids": ("Grid", "Pair", "Task"),
    "gridloom.api.running": ("RunResult", "StageResult", "run"),
    "gridloom.api.scores": ("ScoreTable",),
    "gridloom.api.solving": ("SolveResult", "solve"),
    "gridloom.api.workspaces": ("Workspace", "workspace"),
    "gridloom.compiler.graph": ("RunGraph",),
    "gridloom.errors": (
        "DataError",
        "GridloomError",
        "ModelError",
        "PluginError",
        "ReplayError",
        "SpecError",
        "StageError",
        "StageInterrupted",
        "StoreError",
    ),
    "gridloom.runtime.planning.plan_report": ("PlanReport", "StagePlan"),
    "gridloom.solvers.replay.report": ("ReplayReport",),
}
"""Modules of the public names; a test holds them to the imports above."""


if not TYPE_CHECKING:  # else type checkers would take any name for a public one

    def __getattr__(name: str) -> Any:
        for module, names in _MODULES.items():
            if name in names:
                found = getattr(importlib.import_module(module), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'gridloom' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
