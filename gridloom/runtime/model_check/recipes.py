"""Networks of a recipe for a check: compiled spec, row shape and estimated memory of each train stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gridloom.compiler.compile import Compiled
from gridloom.compiler.graph import StageNode
from gridloom.compiler.text.library import recipe_names
from gridloom.errors import GridloomError
from gridloom.runtime.models.engine.spec import FLAGS, PARTS, EngineModel
from gridloom.runtime.models.kind import RowShape, network_spec
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.planning.facts import LocalFacts
from gridloom.runtime.planning.local import compile_local, spec_base
from gridloom.specs.base import DataSpec
from gridloom.specs.stages import TrainStage
from gridloom.wording import near_and_known

TINY = "-tiny"
ENGINE_RECIPES = (
    "multimodal_hesc",
    "code_optimized",
    "text_optimized",
    "trm_unified",
    "hrm",
    "trm_hier6",
    "trm_singlez",
    "arc_optimized",
    "vision_optimized",
)
"""Recipes of `--all`; each has a twin for a CPU, `NAME-tiny`."""


class UnknownName(GridloomError):
    """A recipe or part that does not exist."""

    exit_code = 2


class Subject(NamedTuple):
    """Network to check."""

    recipe: str
    stage: str
    spec: NetworkSpec
    rows: RowShape
    batch_size: int
    memory_bytes: int | None
    """Estimated peak memory of the train stage; None where there is no estimate."""
    data: DataSpec | None = None
    """Section of the stage's data."""


def check_names(names: Sequence[str], every: bool, tiny: bool) -> list[str]:
    """Return the recipes to check. Raises UnknownName with near names for one that does not exist."""
    wanted = list(ENGINE_RECIPES if every else names)
    known = recipe_names()
    if tiny:
        wanted = [name if name.endswith((TINY, ".yaml", ".yml")) else name + TINY for name in wanted]
    for name in wanted:
        if name in known or name.endswith((".yaml", ".yml")):
            continue
        stem = name.removesuffix(TINY)
        if tiny and stem in known:
            raise UnknownName(f"recipe '{stem}' has no tiny twin", "leave --tiny out")
        raise UnknownName(f"no recipe is called '{stem if tiny else name}'", near_and_known(stem, known))
    return wanted


def check_parts(parts: Sequence[str]) -> None:
    """Raise UnknownName with near names for a part that does not exist."""
    for part in parts:
        if part not in PARTS:
            raise UnknownName(f"no part of the engine is called '{part}'", near_and_known(part, PARTS))


def switched(compiled: Compiled, enable: Sequence[str], disable: Sequence[str]) -> list[str]:
    """Return the overrides that switch parts of every engine of a spec. Raises GridloomError if it has no engine."""
    if not enable and not disable:
        return []
    names = [name for name, model in compiled.spec.models.items() if isinstance(model, EngineModel)]
    if not names:
        kinds = ", ".join(sorted({model.kind for model in compiled.spec.models.values()}))
        raise GridloomError(f"{compiled.graph.name} has no engine whose parts could be switched; its models: {kinds}")
    on = [f"models.{name}.{part}={'true' if part in FLAGS else '{}'}" for name in names for part in enable]
    return on + [f"models.{name}.{part}={'false' if part in FLAGS else 'null'}" for name in names for part in disable]


def subjects(
    recipe: str, enable: Sequence[str] = (), disable: Sequence[str] = (), overrides: Sequence[str] = ()
) -> list[Subject]:
    """Compile a recipe and return the networks that it trains.

    Raises:
        SpecError: it does not compile, also with the switched parts.
        GridloomError: it trains no network, or has no engine to switch parts of.
    """
    compiled = compile_local(recipe, overrides)
    if switches := switched(compiled, enable, disable):
        compiled = compile_local(recipe, [*overrides, *switches])
    facts, base = LocalFacts(), str(spec_base(recipe))
    found: list[Subject] = []
    for node in _trainings(compiled):
        stage = node.section(TrainStage)
        spec = network_spec(node.models[stage.model])
        written = compiled.spec.data[stage.data]
        data = type(written).from_json_values(compiled.graph.node(node.inputs["data"]).spec)
        rows = facts.data(data, base).rows(spec.reads)
        if rows is None:
            raise GridloomError(f"'{stage.data}' of {recipe} has no rows that a {spec.kind} reads")
        memory = None if node.cost is None else node.cost.peak_bytes
        subject = Subject(recipe, node.name, spec, rows, stage.batch_size, memory, data)
        # variants that differ in seeds or steps alone train one network
        if all((one.spec, one.rows) != (spec, rows) for one in found if one.stage.partition("@")[0] == stage_of(node)):
            found.append(subject)
    if not found:
        raise GridloomError(f"{recipe} has no stage of kind train")
    return found


def stage_of(node: StageNode) -> str:
    """Return the name of a node's stage in the spec, without the numbers of a sweep."""
    return node.name.partition("@")[0]


def _trainings(compiled: Compiled) -> list[StageNode]:
    """Return the train nodes of all variants in the order of the spec's stages, but those that continue another's."""
    stages = compiled.spec.stages
    names = [name for name, stage in stages.items() if isinstance(stage, TrainStage) and stage.model not in stages]
    return [node for name in names for node in compiled.graph.nodes if stage_of(node) == name]
