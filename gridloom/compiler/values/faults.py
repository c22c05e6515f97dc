"""Places that pydantic refused in a spec, as paths of its tree."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from gridloom.compiler.language import Spec
from gridloom.compiler.text.tree import Mapping, Path, Places, Scalar, show, to_plain
from gridloom.specs.base import UNREGISTERED
from gridloom.specs.fields import Shape, field_shape, has_key, keys, shape

SECTIONS = ("data", "models", "stages")


class Fault(NamedTuple):
    """A place that pydantic refused."""

    path: Path
    type: str
    place: Shape | None
    """Shape of the place; None for a key that does not exist."""
    owner: Shape | None
    """Shape of the mapping around the place."""
    is_key: bool = False
    message: str = ""
    """Message of a rule of the spec model that refuses the value; empty for a value of another form."""


def faults_of(error: ValidationError, model: type[Spec]) -> list[Fault]:
    """Return the refused places of a spec, each once."""
    found: dict[tuple[Path, bool], Fault] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        fault = _locate(tuple(detail["loc"]), detail["type"], model)
        if detail["type"] == "value_error":
            fault = fault._replace(message=detail["msg"].removeprefix("Value error, "))
        found.setdefault((fault.path, fault.is_key), fault)
    return list(found.values())


def _locate(loc: tuple[int | str, ...], kind: str, spec: type[Spec]) -> Fault:
    """Return pydantic's location as a path: tags of discriminated unions and names of union members are not keys."""
    path: list[str | int] = []
    place: Shape | None = shape(spec)
    owner: Shape | None = None
    is_key = False
    for item in loc:
        if place is None:
            break
        if item == "[key]":
            is_key = True
            break
        if place.discriminator:
            model = place.model(item)
            place = shape(model) if model else place
            continue
        if len(place.members) > 1:
            break
        owner = place
        path.append(item)
        model = place.model()
        place = place.values if model is None else _field(model, str(item))
        if kind == UNREGISTERED and model is not None and item not in keys(model):
            kind = "extra_forbidden"  # the key itself is what no registry has
    return Fault(tuple(path), kind, place, owner, is_key)


def _field(model: type[BaseModel], key: str) -> Shape | None:
    return field_shape(model, key) if has_key(model, key) else None


def at_path(root: Mapping, path: Path) -> Any:
    """Return the plain value at a path, or None."""
    node = Places(root).node(path)
    return to_plain(node) if node is not None else None


def label_of(path: Path) -> str:
    """Return the name of a place in messages: "'steps'", "item 2 of 'subsets'"."""
    if not path:
        return "the spec"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of '{path[-2]}'"
    return f"'{path[-1]}'"


def as_written(node: Scalar) -> str:
    """Return a value as the user wrote it, at most 60 characters; texts in quotes."""
    if node.written is None:
        return show(node.value)
    return node.written if len(node.written) <= 60 else f"{node.written[:57]}..."
