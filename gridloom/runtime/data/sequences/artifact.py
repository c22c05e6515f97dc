"""Artifact of a sequence task: its spec, since rows are generated on demand. Imports no numba."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from gridloom.errors import DataError
from gridloom.runtime.data.files.formats import FORMAT_VERSION, check_format, write_json
from gridloom.runtime.data.files.json_files import load_json
from gridloom.specs.built import BuiltData, PrebuiltData, StreamData
from gridloom.specs.part_tasks import GraphSearchData, RecallData, StarGraphData
from gridloom.specs.puzzles import (
    AdditionData,
    CopyData,
    LogicData,
    ParityData,
    SequenceData,
    SortData,
    StringAdditionData,
)

GeneratedSpec = (
    ParityData
    | AdditionData
    | CopyData
    | SortData
    | LogicData
    | StringAdditionData
    | RecallData
    | StarGraphData
    | GraphSearchData
)
"""Tasks whose rows are generated on demand."""
SequenceSpec = GeneratedSpec | StreamData | PrebuiltData
"""Tasks of artifacts of type `sequences`: generated, and stored ones."""
GENERATOR = 1
"""Version of the generators, incremented when a seed gives different rows."""
_META = "meta.json"


def sequences_digest(spec: SequenceData) -> str:
    """Return the sha256 of the spec and the version of the generators; of stored rows, that of their content."""
    if isinstance(spec, BuiltData) and spec.content is not None:
        return spec.content
    parameters = json.dumps(spec.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"gridloom sequences {GENERATOR}\n{parameters}".encode()).hexdigest()


def save_sequences(folder: Path, spec: Mapping[str, Any], content: str | None = None) -> None:
    """Write meta.json with the spec and the version of the generators, and the sha256 of rows that are stored."""
    stored = {} if content is None else {"content": content}
    write_json(folder / _META, {"format_version": FORMAT_VERSION, "generator": GENERATOR, "spec": dict(spec), **stored})


def load_sequences(path: Path) -> SequenceSpec:
    """Return the spec of an artifact, for a `SequenceStream` or with the place of stored rows. Raises DataError."""
    meta = load_json(path / _META)
    check_format(path / _META, meta)
    adapter: TypeAdapter[SequenceSpec] = TypeAdapter(Annotated[SequenceSpec, Field(discriminator="kind")])
    try:
        spec = adapter.validate_python(meta.get("spec"), strict=False)
    except ValidationError as problem:
        raise DataError(f"{path / _META}: not a sequence task ({problem.error_count()} faults)", "run again") from None
    if meta.get("generator") != GENERATOR:
        raise DataError(f"{path}: rows of generator {meta.get('generator')}, this program has {GENERATOR}", "run again")
    if isinstance(spec, BuiltData):
        return spec.stored_in(str(path), str(meta.get("content", "")))
    return spec
