"""Plan a spec with the facts of this machine and of a workspace, start a new one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gridloom.compiler.calibration import Calibrations
from gridloom.compiler.compile import Compiled, compile_spec
from gridloom.compiler.starter import SCHEMA_FILE, init_text
from gridloom.errors import GridloomError
from gridloom.runtime.calibrations import load_calibrations
from gridloom.runtime.facts import LocalFacts
from gridloom.runtime.local import compile_local
from gridloom.runtime.plan import Plan, make_plan
from gridloom.runtime.rekey import open_store
from gridloom.stores.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Planned:
    """A compiled spec and what running it would do."""

    compiled: Compiled
    plan: Plan
    calibrations: Calibrations


def plan_local(
    spec: str, overrides: Sequence[str], workspace: Workspace, walltime_s: float | None = None,
    device: str | None = None,
) -> Planned:
    """Compile a spec and look up which of its stages are already published in the workspace.

    Memory and walltime are checked for the stages that will run, on `device` where it is given.
    """
    store = open_store(workspace)
    calibrations = load_calibrations()
    compiled = compile_spec(
        spec, overrides, facts=LocalFacts(), calibration=calibrations, walltime_s=walltime_s, device=device,
        is_cached=lambda key: store.find(key) is not None,
    )  # fmt: skip
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


def write_starter(name: str, folder: Path) -> tuple[Path, ...]:
    """Write NAME.yaml and the JSON Schema beside it. Raises GridloomError when the spec exists already."""
    from gridloom.specs.schema import json_schema

    text = init_text(name)
    path, schema = folder / f"{name}.yaml", folder / SCHEMA_FILE
    if path.exists():
        raise GridloomError(f"{path} exists", "choose another name, or remove it")
    path.write_text(text, encoding="utf-8")
    schema.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")
    return path, schema
