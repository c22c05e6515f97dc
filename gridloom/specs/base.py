"""Building blocks of the spec models: strictness, and fields that name other parts of the spec."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

ArtifactType = Literal[
    "dataset",
    "answers",
    "puzzles",
    "sequences",
    "checkpoint",
    "attempts",
    "votes",
    "calibration",
    "report",
    "evaluation",
    "submission",
    "metrics",
]
"""Type of the artifact that a stage publishes and an edge of the run graph carries."""

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True)
class Problem:
    """A combination of values in one spec that a rule refuses, for the compiler and the runtime alike."""

    code: str
    """Code of the diagnostic, such as GL301."""
    field: str
    """Field at fault; empty for the whole entry."""
    message: str
    """Message with the placeholder `{name}` for the entry's name in the spec."""
    remedy: str = ""
    because: str = ""
    """Second field that takes part in the problem; empty where there is none."""


class SpecModel(BaseModel):
    """Base of every spec model: unknown keys are errors, values are frozen; `fields.docs` reads the field docs."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        populate_by_name=True,
        allow_inf_nan=False,
        defer_build=True,  # sections are validated through the spec; building each of them alone doubles the start time
    )


class KindSpec(SpecModel):
    """Base of the entries of `data`, `models` and `stages`, whose keys depend on `kind`."""

    kind: str
    """Name of the kind in its registry."""


class ModelSpec(KindSpec):
    """Base of the models' specs, which are defined in `runtime/models/<family>/spec.py`."""

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the values in combination; each value alone is valid."""
        yield from ()


class DataSpec(KindSpec):
    """Base of the entries of `data`."""

    version: ClassVar[int] = 1
    """Version of the dataset's build; a new version rebuilds the dataset."""
    answers_version: ClassVar[int] = 1
    """Version of the build of the held-out answers."""
    produces: ClassVar[ArtifactType]
    """Type of the published artifact."""


class StageSpec(KindSpec):
    """Base of the stages' specs."""

    version: ClassVar[int] = 1
    """Version of the stage's computation; a new version makes its artifacts anew."""
    produces: ClassVar[ArtifactType]
    """Type of the published artifact."""
    reads_answers: ClassVar[bool] = False
    """Whether the stage reads held-out answers, through the input `answers`."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Marker of a field that names a model (by role), a dataset, or a stage (by artifact type).

    The bind pass turns the name into a typed edge, and the fingerprint replaces the name by the key of its target, so
    that renaming a section never re-runs anything.
    """

    role: str = ""
    """Role that a named model must have, such as 'network'; empty where no model may be named."""
    artifacts: tuple[ArtifactType, ...] = ()
    """Artifact types of the stages and datasets that may be named."""
    part: str | None = None
    """Part that the bundle of a named checkpoint must hold, such as 'trm'."""


@dataclass(frozen=True, slots=True)
class Operational:
    """Marker of a field that cannot change a stage's result, such as a logging interval; in no fingerprint."""


@dataclass(frozen=True, slots=True)
class ByContent:
    """Marker of a field that names the source of content; fingerprints hold the digest of the content instead."""


@dataclass(frozen=True, slots=True)
class OfNode:
    """Marker of a field that the graph's node has as well, such as its seed; fingerprints hold the node's value."""


@dataclass(frozen=True, slots=True)
class Later:
    """Marker of a field added when keys were in use already.

    At its default the field is in no fingerprint, so that artifacts older than the field keep their keys.
    """


DataRef = Annotated[str, Ref(artifacts=("dataset",))]
"""Name of an ARC entry of `data`."""
HeldOutDataRef = Annotated[str, Ref(artifacts=("dataset", "puzzles"))]
"""Name of an ARC, maze or sudoku entry of `data`."""
AnyDataRef = Annotated[str, Ref(artifacts=("dataset", "puzzles", "sequences"))]
"""Name of an entry of `data` of any kind."""
