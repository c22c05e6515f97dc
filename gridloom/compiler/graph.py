"""The compiler's result: a RunGraph of stages in topological order, every default written out. Plain JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from gridloom.specs.base import ArtifactType, KindSpec, ModelSpec

SectionT = TypeVar("SectionT", bound=KindSpec)
ModelT = TypeVar("ModelT", bound=ModelSpec)


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Cost(Frozen):
    """An estimate of what a stage costs, from configurations alone."""

    parameters: int
    """Weights that are trained, or run where nothing trains; exact."""
    frozen_parameters: int = 0
    """Weights of a frozen language model; exact."""
    flops: dict[str, int]
    """Floating-point operations a step, by the precision they run in and, beside TRM training, the work:
    'fp32', 'fp32 ACT', 'fp32 prompt', 'fp32 token'."""
    flops_once: dict[str, int] = {}
    """Operations done once, whatever the number of steps."""
    num_steps: int
    step: str
    """What a step is: 'optimizer step', 'attempt'."""
    peak_bytes: int
    assumes: tuple[str, ...] = ()
    most_s: float | None = None
    """Seconds after which the stage ends by itself, whatever its steps."""


class StageNode(Frozen):
    """One stage (or dataset) to execute.

    `spec` is the section as written with every default filled in; names in it are labels. `models` holds the
    definitions of all models it names (adapters bring the models they name). `inputs` maps the field that names an
    artifact to the node that makes it; the implicit input of a scorer is `answers`.
    """

    name: str
    """`arc1`, `arc1.answers`, `pretrain`, ..."""
    kind: str
    """Registered stage kind: arc, arc_answers, train, joint_train, solve, score, ..."""
    version: int
    produces: ArtifactType
    spec: dict[str, Any]
    models: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}
    facts: dict[str, Any] = {}
    """What the compiler learned from outside the spec and the key depends on: content digests, widths."""
    seed: int = 0
    cost: Cost | None = None
    """Not part of the key."""
    key: str = ""
    """`gl1:` fingerprint of kind, version, resolved parameters and input keys."""

    def section(self, spec: type[SectionT]) -> SectionT:
        """Return `spec`, the node's section, as the spec model of its kind. Raises pydantic.ValidationError."""
        return spec.from_json_values(self.spec)

    def model(self, name: str, spec: type[ModelT]) -> ModelT:
        """Return the definition of a model that the section names. Raises KeyError and pydantic.ValidationError."""
        return spec.from_json_values(self.models[name])


class Variant(Frozen):
    """One combination of a sweep: its values by path, and the node that stands for each stage of the spec."""

    id: str
    """Numbers of the values on each axis, from 1: `2.1`."""
    values: dict[str, Any]
    nodes: dict[str, str]


class RunGraph(Frozen):
    """Stages in topological order. Same spec, same bytes, on any machine."""

    format_version: int = 1
    name: str
    seed: int
    device: str
    nodes: tuple[StageNode, ...]
    variants: tuple[Variant, ...] = ()
    """Combinations of a sweep; empty without one."""
    key: str = ""
    """Fingerprint over the keys of all nodes."""

    def node(self, name: str) -> StageNode:
        """Return the node of that name. Raises KeyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def swept(self, name: str) -> dict[str, Any]:
        """Return by path the swept values that a node alone has; empty without a sweep, and for what it shares."""
        with_it = [variant for variant in self.variants if name in variant.nodes.values()]
        return {
            path: value
            for path, value in (with_it[0].values if with_it else {}).items()
            if all(variant.values[path] == value for variant in with_it)
            and any(variant.values[path] != value for variant in self.variants)
        }

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, one trailing newline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


ANSWERS = ".answers"
"""Suffix of the node that holds a dataset's held-out answers; names cannot contain a dot."""
VOTES = ".votes"
"""Suffix of the node that answers ARC tasks for an evaluate stage, which itself alone sees the right grids."""


def section_name(node: str) -> str:
    """Return the name of the section that a node comes from."""
    return node.removesuffix(ANSWERS).removesuffix(VOTES)
