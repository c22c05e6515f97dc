"""Compile and plan a spec with the facts of this machine; light enough for a save hook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.compiler.compile import Compiled, compile_spec
from gridloom.errors import GridloomError
from gridloom.runtime.facts import LocalFacts
from gridloom.runtime.plan import Plan, make_plan
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Planned:
    """A compiled spec and what running it would do."""

    compiled: Compiled
    plan: Plan


def compile_local(spec: str, overrides: Sequence[str] = ()) -> Compiled:
    """Compile a spec file or library recipe with facts read from this machine's files.

    Raises:
        SpecError: with every problem found.
    """
    return compile_spec(spec, overrides, facts=LocalFacts())


def plan_local(spec: str, overrides: Sequence[str], workspace: Workspace) -> Planned:
    """Compile a spec and look up which of its stages are already published in the workspace."""
    compiled = compile_local(spec, overrides)
    return Planned(compiled, make_plan(compiled.graph, ArtifactStore(workspace)))


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
