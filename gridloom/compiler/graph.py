"""Result of the compiler: a RunGraph of stages in topological order, every default written out, as plain JSON."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from gridloom.specs.base import ArtifactType, ModelSpec, SpecModel

SectionT = TypeVar("SectionT", bound=SpecModel)
ModelT = TypeVar("ModelT", bound=ModelSpec)


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Cost(Frozen):
    """Estimate of a stage's cost from configurations alone."""

    parameters: int
    """Number of trained weights, or of all weights that run where no training happens; exact."""
    frozen_parameters: int = 0
    """Number of weights of a frozen language model; exact."""
    flops: dict[str, int]
    """Floating-point operations per step, by precision and kind of work: 'fp32' (training), 'fp32 ACT', 'fp32 prompt',
    'fp32 token'."""
    flops_once: dict[str, int] = {}
    """Floating-point operations done once, independent of the number of steps."""
    num_steps: int
    step: str
    """Unit of `num_steps`: 'optimizer step', 'batch' or 'attempt'."""
    peak_bytes: int
    assumes: tuple[str, ...] = ()
    most_s: float | None = None
    """Seconds after which the stage ends, even before its last step; None without a budget."""


class StageNode(Frozen):
    """One stage (or dataset) to execute.

    `spec` is the section with every default written out; names in it are labels. `models` holds the definitions of all
    models that the section names, and of those that adapters name. `inputs` maps the field that names an artifact to
    the node that makes it; the implicit input of a scorer is `answers`.
    """

    name: str
    """Name of the node: `arc1`, `arc1.answers`, `pretrain`, ..."""
    kind: str
    """Kind of the stage: arc, arc_answers, train, joint_train, solve, score, ..."""
    version: int
    produces: ArtifactType
    spec: dict[str, Any]
    models: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}
    facts: dict[str, Any] = {}
    """Facts from outside the spec that the key covers: content digests, widths."""
    seed: int = 0
    cost: Cost | None = None
    """Estimated cost; not part of the key."""
    key: str = ""
    """Fingerprint `gl1:...` of kind, version, resolved parameters and input keys."""

    def section(self, spec: type[SectionT]) -> SectionT:
        """Return `spec`, the node's section, as the spec model of its kind. Raises pydantic.ValidationError."""
        return spec.from_json_values(self.spec)

    def model(self, name: str, spec: type[ModelT]) -> ModelT:
        """Return the definition of a model that the section names. Raises KeyError and pydantic.ValidationError."""
        return spec.from_json_values(self.models[name])


class Variant(Frozen):
    """One combination of a sweep: its values by path, and the node of each stage of the spec."""

    id: str
    """Number of the value on each axis, from 1: `2.1`."""
    values: dict[str, Any]
    nodes: dict[str, str]


class RunGraph(Frozen):
    """Stages in topological order. Equal specs give equal bytes on every machine."""

    format_version: int = 1
    name: str
    seed: int
    device: str
    nodes: tuple[StageNode, ...]
    variants: tuple[Variant, ...] = ()
    """Combinations of a sweep; empty without a sweep."""
    key: str = ""
    """Fingerprint over the keys of all nodes."""

    def node(self, name: str) -> StageNode:
        """Return the node called `name`. Raises KeyError for an unknown name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    def swept(self, name: str) -> dict[str, Any]:
        """Return the swept values, by path, that only this node has; empty without a sweep and for shared nodes."""
        with_it = [variant for variant in self.variants if name in variant.nodes.values()]
        return {
            path: value
            for path, value in (with_it[0].values if with_it else {}).items()
            if all(variant.values[path] == value for variant in with_it)
            and any(variant.values[path] != value for variant in self.variants)
        }

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, one trailing newline."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, indent=1, ensure_ascii=False) + "\n"


ANSWERS = ".answers"
"""Suffix of the node with a dataset's held-out answers; names of a spec contain no dot."""
VOTES = ".votes"
"""Suffix of the node that answers ARC tasks for an evaluate stage; only the stage's own node reads the answers."""


def section_name(node: str) -> str:
    """Return the name of a node's section in the spec."""
    return node.removesuffix(ANSWERS).removesuffix(VOTES)
