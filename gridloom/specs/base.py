"""Building blocks of the spec models: strictness, and fields that name other parts of the spec."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from gridloom.plugins import Registry

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


class Problem(NamedTuple):
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

    @classmethod
    def from_json_values(cls, values: Mapping[str, Any]) -> Self:
        """Validate values as JSON holds them, such as a section of a run graph. Raises pydantic.ValidationError.

        `model_validate` would refuse them: strict models take a list for a tuple from JSON text alone.
        """
        return cls.model_validate_json(json.dumps(dict(values)))


class ModelSpec(SpecModel):
    """Base of the models' specs, which are defined in `runtime/models/<family>/spec.py`."""

    kind: str
    """Name of the kind, as the registry has it."""

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the values in combination; each value alone is valid."""
        yield from ()


class DataSpec(SpecModel):
    """Base of the entries of `data`."""

    kind: str
    """Name of the kind, as the registry has it."""

    version: ClassVar[int] = 1
    """Version of the dataset's build; a new version rebuilds the dataset."""
    answers_version: ClassVar[int] = 1
    """Version of the build of the held-out answers."""
    produces: ClassVar[ArtifactType]
    """Type of the published artifact."""


class StageSpec(SpecModel):
    """Base of the stages' specs."""

    kind: str
    """Name of the kind, as the registry has it."""

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


CHECK_NAMES = {"check_names": True}
"""Validation context under which names of kinds must be those of built-in or installed ones: the compiler's. Recorded
specs are read without it, since a record may name a kind that is not installed here and that its reader never needs."""
UNREGISTERED = "unregistered"
"""Type of the validation error for a name that no registry has."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Marks text that names a kind of a registry: the value of a field, or a key beside the fields of a model."""

    registry: Registry[Any]
    also: tuple[str, ...] = ()
    """Words that are taken beside the names, before them in messages."""
    never: tuple[str, ...] = ()
    """Names that are refused whoever brings them."""

    def names(self) -> tuple[str, ...]:
        """Return every word that is taken."""
        return (*self.also, *(name for name in self.registry.names() if name not in self.never))

    def takes(self, name: str) -> bool:
        """Whether a word is taken; loads no kind."""
        return name in self.also or (name not in self.never and self.registry.has(name))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str, info: ValidationInfo) -> str:
        if info.context == CHECK_NAMES and not self.takes(name):
            raise PydanticCustomError(UNREGISTERED, "no kind of this name is known")
        return name

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """List the built-in names, which an editor can complete, and take those of other packages."""
        return {"anyOf": [{"type": "string", "enum": [*self.also, *self.registry.built_in]}, {"type": "string"}]}


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
AnyDataRef = Annotated[str, Ref(artifacts=("dataset", "puzzles", "sequences"))]
"""Name of an entry of `data` of any kind."""
