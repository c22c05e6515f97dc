"""Fields of the spec language by dotted path: `train.optimizer.lr`, `stages.train.steps`, `walltime`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gridloom.compiler.language import Spec
from gridloom.errors import GridloomError
from gridloom.specs.base import Operational, SpecModel
from gridloom.specs.fields import Shape, docs, expected, field_shape, keys, kind_of, kinds_of, marked
from gridloom.wording import did_you_mean, listed

SECTIONS = ("data", "models", "stages")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of one model."""

    path: str
    """Path as explained: the kind in the place of the section and the user's name."""
    section: str
    """data, models, stages; empty for a field of the spec itself."""
    model: type[BaseModel]
    key: str
    takes: str
    default: str
    """Default as YAML; empty for a field that must be written."""
    text: str
    in_key: bool
    """Whether the field is part of the stage's key: another value runs it anew."""
    inner: tuple[str, ...]
    """Paths of the fields below, of every kind that may stand here."""


def default_text(model: type[BaseModel], key: str) -> str:
    """Return a field's default in YAML's flow style; empty where there is none. A block is named by its kind."""
    field = keys(model)[key]
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return ""
    if isinstance(value, BaseModel):
        kind = kind_of(type(value))
        changed = value.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        shown = ({"kind": kind} if kind else {}) | changed
        return json.dumps(shown) if shown else "{}: its own defaults"
    return json.dumps(value if not isinstance(value, tuple) else list(value))


def _field(path: str, section: str, model: type[BaseModel], key: str) -> Field:
    place = field_shape(model, key)
    inner = [
        f"{path}.{name}" for one in _models(place) for name in keys(one) if name != "kind" or len(kinds_of(one)) > 1
    ]
    return Field(
        path,
        section,
        model,
        key,
        expected(place),
        default_text(model, key),
        " ".join(docs(model).get(key, "").split()),
        section != "" and key not in marked(model, Operational),
        tuple(dict.fromkeys(inner)),
    )


def _models(place: Shape) -> tuple[type[SpecModel], ...]:
    if place.models:
        return place.models
    return place.values.models if place.values is not None else ()


def kinds() -> dict[str, tuple[str, type[BaseModel]]]:
    """Return section and model of every kind that may stand in a section, by kind."""
    found: dict[str, tuple[str, type[BaseModel]]] = {}
    for section in SECTIONS:
        inside = field_shape(Spec, section).values
        assert inside is not None, section
        for model in inside.models:
            if (kind := kind_of(model)) is not None:
                found[kind] = (section, model)
    return found


def find_fields(path: str) -> list[Field]:
    """Return the field that a path means, once for each kind of block on the way that has it.

    The path begins with a kind (`train.steps`), a section and a kind (`stages.train.steps`), or a field of the spec
    itself; a block's kind may be named on the way (`train.optimizer.muon.lr`).

    Raises:
        GridloomError: no such field, with the nearest.
    """
    words = path.split(".")
    known = kinds()
    if words[0] in SECTIONS and len(words) > 1:
        words = words[1:]
    if words[0] in known and len(words) > 1:
        section, model = known[words[0]]
        return _walk([model], section, words[0], words[1:])
    if words[0] in known:
        section, model = known[words[0]]
        return [_field(f"{words[0]}.{key}", section, model, key) for key in keys(model) if key != "kind"]
    if words[0] in keys(Spec):
        return _walk([Spec], "", "", words)
    names = [*known, *keys(Spec)]
    if ends := _paths_to(words[0]):
        raise GridloomError(f"{words[0]!r} alone is no path", f"fields of this name: {listed(ends, 8)}")
    raise GridloomError(
        f"no kind or field is called {words[0]!r}",
        did_you_mean(words[0], names, f"kinds: {listed(list(known), 40)}"),
    )


def _paths_to(key: str) -> list[str]:
    """Return the paths of the fields of this name in kinds and in their blocks."""
    found = []
    for kind, (_, model) in kinds().items():
        if key in keys(model):
            found.append(f"{kind}.{key}")
        for block in keys(model):
            inner = _models(field_shape(model, block))
            if any(key in keys(one) for one in inner):
                found.append(f"{kind}.{block}.{key}")
    return [path for path in found if not path.endswith(".kind")]


def _walk(models: list[type[BaseModel]], section: str, before: str, words: list[str]) -> list[Field]:
    word, rest = words[0], words[1:]
    chosen = [model for model in models if kind_of(model) == word]
    if chosen and rest:
        return _walk(chosen, section, f"{before}.{word}", rest)
    having = [model for model in models if word in keys(model)]
    path = f"{before}.{word}".removeprefix(".")
    if not having:
        names = list(dict.fromkeys(key for model in models for key in keys(model)))
        raise GridloomError(
            f"{before or 'the spec'} has no field {word!r}", did_you_mean(word, names, f"it has {listed(names, 40)}")
        )
    if not rest:
        return [_field(path, section, model, word) for model in having]
    below = [inner for model in having for inner in _models(field_shape(model, word))]
    if not below:
        raise GridloomError(f"{path} is a single value and has no field {rest[0]!r}", f"gridloom explain {path}")
    return _walk(list(dict.fromkeys(below)), section, path, rest)


def field_lines(path: str) -> Iterator[str]:
    """Yield the lines that explain a path. Raises GridloomError as `find_fields`."""
    found = find_fields(path)
    several = len({one.key for one in found}) > 1
    if several:  # a kind alone: its fields, one a line
        _, model = kinds()[path.split(".")[-1]]
        yield f"{path}: {' '.join((model.__doc__ or '').split())}"
        width = max(len(one.key) for one in found)
        for one in found:
            yield f"  {one.key:<{width}}  {one.text.partition('. ')[0].rstrip('.')}"
        yield f"`gridloom explain {path}.{found[0].key}` has what one takes"
        return
    for one in found:
        kind = kind_of(one.model)
        of = f"  of kind {kind}" if kind and len(found) > 1 else ""
        yield f"{one.path}{of}"
        yield f"  takes    {one.takes}"
        yield f"  default  {one.default or 'none: it must be written'}"
        if one.section:
            yield f"  key      {'another value runs the stage anew' if one.in_key else 'in no key: nothing runs anew'}"
        if one.text:
            yield f"  {one.text}"
        if one.inner:
            names = [inner.removeprefix(f"{one.path}.") for inner in one.inner]
            yield f"  fields   {listed(names, 40)}"
    first = found[0]
    place = f"{first.section}.NAME{first.path[first.path.index('.') :]}" if first.section else first.path
    yield f"in a spec or with --set: {place}"


def field_data(one: Field) -> dict[str, Any]:
    """Return a field as JSON values."""
    return {
        "path": one.path,
        "section": one.section or None,
        "kind": kind_of(one.model),
        "takes": one.takes,
        "default": one.default or None,
        "text": one.text,
        "in_key": one.in_key,
        "fields": list(one.inner),
    }
