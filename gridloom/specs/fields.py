"""Introspection of the spec models: the keys of each place, their types, and the fields that name other sections."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gridloom.specs.base import Ref, Registered, SpecModel
from gridloom.specs.walltime import Takes


@dataclass(frozen=True, slots=True)
class Member:
    """One of the types that a place accepts, with its constraints."""

    type: Any
    meta: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Shape:
    """Values that a place in a spec accepts: alternatives, null, and the key that tells models apart."""

    members: tuple[Member, ...]
    optional: bool = False
    discriminator: str | None = None

    @cached_property
    def models(self) -> tuple[type[SpecModel], ...]:
        """Models among the members."""
        return tuple(m.type for m in self.members if isinstance(m.type, type) and issubclass(m.type, SpecModel))

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Values of `kind` that the models accept."""
        return tuple(kind for model in self.models for kind in kinds_of(model))

    def model(self, kind: object = None) -> type[SpecModel] | None:
        """Return the model for `kind`, or the only model."""
        if len(self.models) == 1:
            return self.models[0]
        return self._by_kind.get(kind) if isinstance(kind, str) else None

    @cached_property
    def _by_kind(self) -> dict[str, type[SpecModel]]:
        return {kind: model for model in self.models for kind in kinds_of(model)}

    @cached_property
    def ref(self) -> Ref | None:
        """Marker of a place that names another part of the spec."""
        return next((item for m in self.members for item in m.meta if isinstance(item, Ref)), None)

    @cached_property
    def registered(self) -> Registered | None:
        """The mark of a place that takes a name of a registry."""
        return next((item for m in self.members for item in m.meta if isinstance(item, Registered)), None)

    @cached_property
    def values(self) -> Shape | None:
        """Shape of a dict's values or a list's items."""
        for member in self.members:
            origin, args = get_origin(member.type), get_args(member.type)
            if origin is dict:
                return shape(args[1])
            if origin in (tuple, list):
                return shape(args[0])
        return None

    @property
    def is_dict(self) -> bool:
        """Whether the place takes a mapping with names of the user's choice."""
        return any(get_origin(m.type) is dict for m in self.members)

    @property
    def is_list(self) -> bool:
        """Whether the place takes a list."""
        return any(get_origin(m.type) in (tuple, list) for m in self.members)


@cache
def kind_of(model: type[BaseModel]) -> str | None:
    """Return the value of a model's `kind` field; None where it has none, or one of several."""
    kinds = kinds_of(model)
    return kinds[0] if len(kinds) == 1 else None


def kinds_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the values that a model's `kind` field takes."""
    field = model.model_fields.get("kind")
    return tuple(map(str, get_args(field.annotation))) if field and get_origin(field.annotation) is Literal else ()


@cache
def keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by their key in YAML."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


@cache
def beside(model: type[BaseModel]) -> tuple[Registered, Shape] | None:
    """Return which keys a model takes beside those of its fields, and the shape of their values; None for none."""
    if model.model_config.get("extra") != "allow":
        return None
    names, values = map(shape, get_args(get_type_hints(model, include_extras=True)["__pydantic_extra__"]))
    return (names.registered, values) if names.registered else None


def has_key(model: type[BaseModel], key: str) -> bool:
    """Whether a model takes a key: one of a field, or one that a registry has."""
    more = None if key in keys(model) else beside(model)
    return key in keys(model) or (more is not None and more[0].takes(key))


def known_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the keys that a model takes: those of its fields, then those of other packages."""
    more = beside(model)
    others = more[0].names() if more else ()
    return (*keys(model), *(name for name in others if name not in keys(model)))


@cache
def field_shape(model: type[BaseModel], key: str) -> Shape:
    """Return the shape of the value of one key."""
    if key not in keys(model) and (more := beside(model)) is not None:
        return more[1]
    field = keys(model)[key]
    found = shape(field.annotation, tuple(field.metadata))
    tag = field.discriminator if isinstance(field.discriminator, str) else found.discriminator
    return Shape(found.members, found.optional, tag)


def shape(annotation: Any, meta: tuple[Any, ...] = ()) -> Shape:
    """Return the shape of a type annotation."""
    discriminator: str | None = None
    while get_origin(annotation) is Annotated:
        annotation, *extra = get_args(annotation)
        for item in extra:
            if isinstance(item, FieldInfo):
                meta = (*meta, *item.metadata)
                discriminator = item.discriminator if isinstance(item.discriminator, str) else discriminator
            else:
                meta = (*meta, item)
    if get_origin(annotation) in (Union, types.UnionType):
        inner = [shape(arg, meta) for arg in get_args(annotation) if arg is not type(None)]
        members = tuple(member for one in inner for member in one.members)
        nested = next((one.discriminator for one in inner if one.discriminator), None)
        optional = type(None) in get_args(annotation) or any(one.optional for one in inner)
        return Shape(members, optional, discriminator or nested)
    return Shape((Member(annotation, meta),), discriminator=discriminator)


def expected(place: Shape) -> str:
    """Return what a place takes, in words: 'an integer from 1 to 30 or 'auto''."""
    described = takes(place)
    parts = [described.takes] if described else list(dict.fromkeys(_member_text(member) for member in place.members))
    if place.optional:
        parts.append("null")
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " or " + parts[-1]


def takes(place: Shape) -> Takes | None:
    """Return the `Takes` of a place, which describes what its type alone does not express."""
    return next((item for member in place.members for item in member.meta if isinstance(item, Takes)), None)


_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    bool: ("true or false", "true or false"),
}


def _member_text(member: Member) -> str:
    origin, args = get_origin(member.type), get_args(member.type)
    if origin is Literal:
        return _choices(args)
    if origin in (tuple, list):
        item = shape(args[0])
        many = "names" if _has(item, Ref) else _NOUNS.get(item.members[0].type, ("", "values"))[1]
        if len(args) > 1 and args[1] is not Ellipsis:
            return f"a list of {len(args)} {many}"
        return f"a list of {many}"
    if origin is dict or (isinstance(member.type, type) and issubclass(member.type, BaseModel)):
        return "a mapping"
    if any(isinstance(item, Ref) for item in member.meta):
        return "a name"
    if (named := next((item for item in member.meta if isinstance(item, Registered)), None)) is not None:
        return _choices(named.names())
    noun = _NOUNS.get(member.type, ("a value", ""))[0]
    return noun + _bounds(member.meta)


def _choices(values: tuple[Any, ...]) -> str:
    shown = [f"'{v}'" if isinstance(v, str) else str(v) for v in values]
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " or " + shown[-1]


def _bounds(meta: tuple[Any, ...]) -> str:
    found: dict[str, Any] = {}
    for item in meta:
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            value = getattr(item, name, None)
            if value is not None:
                found[name] = value
    low, high = found.get("ge"), found.get("le")
    step = f", a multiple of {found['multiple_of']}" if "multiple_of" in found else ""
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}{step}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    limits = [f"{words[name]} {_number(found[name])}" for name in words if name in found]
    return (" " + " and ".join(limits) if limits else "") + step


def _number(value: float) -> str:
    if isinstance(value, int) and value >= 1_000_000:
        return f"{value:,}"
    return str(value)


def _has(place: Shape, mark: type) -> bool:
    return any(isinstance(item, mark) for member in place.members for item in member.meta)


@cache
def marked(model: type[BaseModel], mark: type) -> frozenset[str]:
    """Return the keys of a model's fields that carry a marker such as Operational."""
    return frozenset(key for key in keys(model) if _has(field_shape(model, key), mark))


@cache
def docs(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring beneath each field, inherited ones too, by key.

    The source is read on demand; pydantic would read it at every start of the program.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base.__module__ != BaseModel.__module__:
            found |= _own_docs(base)
    return {key: found[name] for name, key in _key_of(model).items() if name in found}


def _own_docs(model: type[BaseModel]) -> dict[str, str]:
    try:
        source = inspect.getsource(model)
    except OSError:
        return {}  # shipped without source: specs compile, but fields have no documentation
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _key_of(model: type[BaseModel]) -> dict[str, str]:
    return {name: field.alias or name for name, field in model.model_fields.items()}


def doc(model: type[BaseModel], key: str) -> str:
    """Return the first line of a field's documentation."""
    return docs(model).get(key, "").partition("\n")[0]


def references(value: BaseModel, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Ref, str]]:
    """Yield (path, reference, name) of every name written in a section, in field order."""
    for key, name, place in _naming_fields(type(value)):
        yield from _references_in(getattr(value, name), place, (*path, key))


@cache
def _naming_fields(model: type[BaseModel]) -> tuple[tuple[str, str, Shape], ...]:
    """Return (key, attribute, shape) of the fields that can hold a name."""
    fields = [(field.alias or name, name) for name, field in model.model_fields.items()]
    found = [(key, name, field_shape(model, key)) for key, name in fields]
    return tuple((key, name, place) for key, name, place in found if _may_name(place))


def _may_name(place: Shape) -> bool:
    inner = place.values
    return bool(
        place.ref or (inner is not None and _may_name(inner)) or any(_naming_fields(model) for model in place.models)
    )


def _references_in(
    value: Any, place: Shape, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Ref, str]]:
    if isinstance(value, BaseModel):
        yield from references(value, path)
    elif isinstance(value, str):
        if place.ref is not None:
            yield path, place.ref, value
    elif isinstance(value, tuple | list):
        inner = place.values
        for i, item in enumerate(value):
            if inner is not None:
                yield from _references_in(item, inner, (*path, i))
