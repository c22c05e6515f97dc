"""Facts of a bound spec: datasets, language models and given checkpoints, as checks and lowering need them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from gridloom.compiler.bind import Bound
from gridloom.compiler.facts import CheckpointFacts, DataFacts
from gridloom.compiler.session import Session
from gridloom.compiler.text.base_folder import base_of
from gridloom.compiler.text.tree import Path
from gridloom.errors import DataError, GridloomError
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.specs.stages import CheckpointStage


@dataclass(frozen=True, slots=True)
class SpecFacts:
    """A bound spec with the facts of every dataset, language model and given checkpoint that its stages use."""

    bound: Bound
    base: str = "."
    """Folder of the spec, from which the runtime resolves relative paths."""
    data: dict[str, DataFacts] = field(default_factory=dict)
    llama: dict[str, LlamaFacts] = field(default_factory=dict)
    checkpoints: dict[str, CheckpointFacts] = field(default_factory=dict)
    """Facts of given checkpoints, by checkpoint stage."""


def read_facts(bound: Bound, session: Session) -> SpecFacts:
    """Return the facts of everything that stages use. Records GL321, GL322, GL324."""
    data, llama = _data_facts(bound, session), _llama_facts(bound, session)
    return SpecFacts(bound, session.base, data, llama, _checkpoint_facts(bound, session))


def used_data(bound: Bound) -> tuple[str, ...]:
    """Return the names of the datasets that some stage reads, in the order of the spec."""
    used = {e.target[1] for name in bound.spec.stages for e in bound.edges[("stages", name)] if e.target[0] == "data"}
    return tuple(name for name in bound.spec.data if name in used)


def _data_facts(bound: Bound, session: Session) -> dict[str, DataFacts]:
    found: dict[str, DataFacts] = {}
    for name in used_data(bound):
        if ("data", name) in bound.shaky:
            continue
        path: Path = ("data", name, "source")
        try:
            found[name] = session.facts.data(bound.spec.data[name], base_of(bound.places.value(path)))
        except GridloomError as error:
            if isinstance(error, DataError):
                path = ("data", name, *error.field)
            session.error("GL321", error.message, bound.places.value(path), error.remedy, bound.places.used_at(path))
    return found


def _llama_facts(bound: Bound, session: Session) -> dict[str, LlamaFacts]:
    found: dict[str, LlamaFacts] = {}
    for stage in bound.spec.stages:
        for name, model in bound.models_of(("stages", stage)):
            if not isinstance(model, LlamaModel) or name in found or ("models", name) in bound.shaky:
                continue
            path = ("models", name, "weights")
            try:
                found[name] = session.facts.llama(model, base_of(bound.places.value(path)))
            except GridloomError as error:
                session.error(
                    "GL322", error.message, bound.places.value(path), error.remedy, bound.places.used_at(path)
                )
    return found


def _checkpoint_facts(bound: Bound, session: Session) -> dict[str, CheckpointFacts]:
    found: dict[str, CheckpointFacts] = {}
    for name, stage in bound.spec.stages.items():
        if not isinstance(stage, CheckpointStage) or ("stages", name) in bound.shaky:
            continue
        path = ("stages", name, "path")
        try:
            found[name] = session.facts.checkpoint(stage.path, base_of(bound.places.value(path)))
        except GridloomError as error:
            session.error("GL324", error.message, bound.places.value(path), error.remedy, bound.places.used_at(path))
    return found


def sound(spec_facts: SpecFacts, section: str, kind: type[Any] | tuple[type[Any], ...]) -> Iterator[tuple[str, Any]]:
    """Yield entries of a kind, or of several, whose own values were all accepted."""
    for name, entry in getattr(spec_facts.bound.spec, section).items():
        if isinstance(entry, kind) and (section, name) not in spec_facts.bound.shaky:
            yield name, entry
