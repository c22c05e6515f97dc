"""Tree -> spec models: a diagnostic with its position for every unknown key, wrong type and value out of range.

pydantic validates; the messages are written here from the fields' types. Refused values are removed and the rest is
validated again, so that later passes report on the sound parts as well.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ValidationError

from gridloom.compiler.language import Spec
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.kinds import language_of
from gridloom.compiler.text.tree import Mapping, Node, Path, Places, Scalar, show, to_plain, walk
from gridloom.plugins import Registry
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.base import CHECK_NAMES, UNREGISTERED
from gridloom.specs.fields import Shape, doc, expected, field_shape, has_key, keys, known_keys, shape, takes
from gridloom.specs.kinds import STAGES
from gridloom.wording import did_you_mean, listed, nearest

LANGUAGE_VERSION = 1
MAX_INTEGER, MAX_NUMBER = 2**63 - 1, 1e38
"""Largest size of an integer and of another number in a field."""
SECTIONS = ("data", "models", "stages")
_KINDS: dict[str | int, Registry[Any]] = {"models": MODELS, "stages": STAGES}
"""Registries by section."""
_SINGULAR = {"data": "data", "models": "model", "stages": "stage"}


class Validated(NamedTuple):
    """A spec, or the sound part of a spec."""

    spec: Spec
    places: Places
    names: dict[str, tuple[str, ...]]
    """All written names by section, including those of refused entries, which are not in `spec`."""
    shaky: frozenset[tuple[str, str]] = frozenset()
    """(section, name) of entries with a refused value; rules skip these entries."""


class _Fault(NamedTuple):
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


def validate(root: Mapping, session: Session) -> Validated:
    """Validate a composed tree. Records GL101-GL111; raises Stop where no spec is left."""
    places = Places(root)
    holes = places.holes() if session.failed else frozenset()
    names = {section: _names(root, section) for section in SECTIONS}
    plain = to_plain(root)
    _check_version(root, places, session)
    shaky = {(str(hole[0]), str(hole[1])) for hole in holes if len(hole) > 1}
    model = language_of(root, session)
    refused: set[Path] = set()
    first = True
    while True:
        try:
            spec = model.model_validate_json(json.dumps(plain), by_alias=True, by_name=False, context=CHECK_NAMES)
            shaky |= _too_large(root, places, refused, session)
            return Validated(spec, places, names, frozenset(shaky))
        except ValidationError as error:
            faults = _faults(error, model)
            if unset := [fault for fault in faults if _restores_default(fault, places)]:
                before = json.dumps(plain)
                for fault in unset:
                    _remove(plain, fault.path)
                if json.dumps(plain) != before:
                    continue
            refused |= {fault.path for fault in faults}
        if first:
            _report(
                [f for f in faults if f.path not in holes and (*f.path, "kind") not in holes], root, places, session
            )
            first = False
        before = json.dumps(plain)
        for fault in faults:
            if len(fault.path) > 1 and fault.path[0] in SECTIONS and fault.type != "extra_forbidden":
                shaky.add((str(fault.path[0]), str(fault.path[1])))
            _cut(plain, fault)
        if json.dumps(plain) == before:
            raise Stop


def _restores_default(fault: _Fault, places: Places) -> bool:
    """Return whether the refused value is a null that unsets a field. A field without a default is missing then, and
    an item of a list is no field."""
    if fault.type == "missing" or not fault.path or isinstance(fault.path[-1], int):
        return False
    node = places.node(fault.path)
    return isinstance(node, Scalar) and node.unsets


def _too_large(root: Mapping, places: Places, refused: set[Path], session: Session) -> set[tuple[str, str]]:
    """Record GL106 for numbers that no field can mean; return the entries that hold them.

    Most fields have a lower bound alone, and products of them are estimated: nine of these integers are a float still.
    """
    found = set()
    for path, node in walk(root):
        if isinstance(node, Scalar) and isinstance(node.value, int | float) and path[0] not in ("vars", "sweep"):
            bound = MAX_INTEGER if isinstance(node.value, int) else MAX_NUMBER
            if abs(node.value) > bound and path not in refused:
                message = f"{_label(path)} is too large a number: {_as_written(node)}"
                hint = f"numbers of a spec have a size of at most {bound:.0e}"
                session.error("GL106", message, node.span, hint, places.used_at(path))
                found.add((str(path[0]), str(path[1]) if len(path) > 1 else ""))
    return found


def _as_written(node: Scalar) -> str:
    """Return a value as the user wrote it, at most 60 characters; texts in quotes."""
    if node.written is None:
        return show(node.value)
    return node.written if len(node.written) <= 60 else f"{node.written[:57]}..."


def _names(root: Mapping, section: str) -> tuple[str, ...]:
    node = root.get(section)
    return tuple(node.entries) if isinstance(node, Mapping) else ()


def _check_version(root: Mapping, places: Places, session: Session) -> None:
    node = root.get("gridloom")
    if isinstance(node, Scalar) and (node.value != LANGUAGE_VERSION or isinstance(node.value, bool)):
        session.error(
            "GL110",
            f"version {show(node.value)} of the spec language is not known here",
            node.span,
            f"this gridloom reads version {LANGUAGE_VERSION}: write 'gridloom: {LANGUAGE_VERSION}'",
        )


def _faults(error: ValidationError, model: type[Spec]) -> list[_Fault]:
    found: dict[tuple[Path, bool], _Fault] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        fault = _locate(tuple(detail["loc"]), detail["type"], model)
        if detail["type"] == "value_error":
            fault = fault._replace(message=detail["msg"].removeprefix("Value error, "))
        found.setdefault((fault.path, fault.is_key), fault)
    return list(found.values())


def _locate(loc: tuple[int | str, ...], kind: str, spec: type[Spec]) -> _Fault:
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
    return _Fault(tuple(path), kind, place, owner, is_key)


def _field(model: type[BaseModel], key: str) -> Shape | None:
    return field_shape(model, key) if has_key(model, key) else None


def _cut(plain: Any, fault: _Fault) -> None:
    """Remove the refused value, or for a missing key the named entry around it."""
    path = fault.path
    if fault.type == "missing":
        if len(path) == 1:
            plain[path[0]] = {"gridloom": 1, "name": "spec"}.get(str(path[0]), {})
            return
        path = path[:2] if path[0] in SECTIONS else path[:-1]
    if path in (("gridloom",), ("name",), ("stages",)):
        plain[path[0]] = {"gridloom": 1, "name": "spec"}.get(str(path[0]), {})
        return
    _remove(plain, path)


def _remove(plain: Any, path: Path) -> None:
    parent = plain
    for step in path[:-1]:
        try:
            parent = parent[step]
        except (KeyError, IndexError, TypeError):
            return  # removed already, with the value around it
    if isinstance(parent, dict):
        parent.pop(path[-1], None)
    elif isinstance(parent, list):
        # removing one item would shift the paths of the other faults, so the whole list is removed
        _cut(plain, _Fault(path[:-1], "cut", None, None))


def _report(faults: list[_Fault], root: Mapping, places: Places, session: Session) -> None:
    for fault in faults:
        if fault.path == ("gridloom",) and fault.type == "literal_error":
            continue  # reported as GL110
        notes = places.used_at(fault.path)
        if _is_oracle(fault, root):
            session.error(
                "GL403",
                f"stage '{fault.path[1]}' could see answers: an oracle reads the held-out outputs",
                places.key(fault.path) if fault.type == "extra_forbidden" else places.value(fault.path),
                "use leave_one_out; an oracle is for joint_train only (feedback: oracle)",
            )
        elif fault.type == "extra_forbidden":
            _unknown_key(fault, root, places, session)
        elif fault.type == "missing":
            _missing(fault, root, places, session)
        elif fault.is_key:
            session.error(
                "GL108",
                f"'{fault.path[-1]}' is not a valid name",
                places.key(fault.path),
                "names begin with a letter and hold letters, digits, '_' and '-', at most 64",
            )
        elif fault.type.startswith("union_tag") or fault.path[-1:] == ("kind",):
            _wrong_kind(fault, root, places, session)
        else:
            _wrong_value(fault, root, places, session, notes)


def _is_oracle(fault: _Fault, root: Mapping) -> bool:
    """Return whether a solve stage asks for a verifier that reads the answers, for which no key or value exists."""
    if fault.path[:1] != ("stages",) or at_path(root, (*fault.path[:2], "kind")) != "solve":
        return False
    return "oracle" in (fault.path[-1], at_path(root, fault.path))


def at_path(root: Mapping, path: Path) -> Any:
    """Return the plain value at a path, or None."""
    node = Places(root).node(path)
    return to_plain(node) if node is not None else None


def noun(path: Path, owner: Shape | None, root: Mapping) -> str:
    """Return a noun for the mapping at `path`: 'a train stage', 'the spec', "'solver'"."""
    if not path:
        return "the spec"
    if len(path) == 2 and path[0] in SECTIONS and owner:
        kind = at_path(root, (*path, "kind")) or (owner.kinds[0] if len(owner.kinds) == 1 else "")
        text = f"{kind} {_SINGULAR[str(path[0])]}".strip()
        if path[0] == "data":
            return text
        return ("an " if text[0] in "aeio" else "a ") + text
    return f"'{path[-1]}'"


def _unknown_key(fault: _Fault, root: Mapping, places: Places, session: Session) -> None:
    key = str(fault.path[-1])
    model = fault.owner.model() if fault.owner else None
    known = known_keys(model) if model else ()
    near = nearest(key, [name for name in known if name != "kind"])
    inside = _deeper(fault.owner, key) if not near else ""
    if near:
        hint = f"did you mean '{near}'?"
    elif inside:
        hint = f"did you mean '{inside}'?"
    else:
        hint = f"known keys: {listed(known, 20)}"
    where = noun(fault.path[:-1], fault.owner, root)
    session.error("GL101", f"unknown key '{key}' in {where}", places.key(fault.path), hint)


def _deeper(owner: Shape | None, key: str) -> str:
    """Return the path, from this mapping, of a nested block's key of the same name; empty where there is none."""
    for model in owner.models if owner else ():
        for name in keys(model):
            for inner in field_shape(model, name).models:
                if has_key(inner, key) and key != "kind":
                    return f"{name}.{key}"
                if deeper := _deeper(shape(inner), key):
                    return f"{name}.{deeper}"
    return ""


def _missing(fault: _Fault, root: Mapping, places: Places, session: Session) -> None:
    parent, key = fault.path[:-1], str(fault.path[-1])
    model = fault.owner.model() if fault.owner else None
    where = noun(parent, fault.owner, root)
    name = f" '{parent[-1]}'" if len(parent) == 2 and parent[0] in SECTIONS else ""
    at = places.key(parent) if parent else root.span
    hint = f"{key}: {_lower_first(doc(model, key))}" if model else ""
    session.error("GL103", f"{where}{name} needs '{key}'", at, hint)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _wrong_kind(fault: _Fault, root: Mapping, places: Places, session: Session) -> None:
    path = fault.path if fault.path[-1:] != ("kind",) else fault.path[:-1]
    place = fault.place if path == fault.path else fault.owner
    # the kinds of other packages are listed for a mistake alone: reading entry points takes a while
    kinds = _KINDS[path[0]].names() if len(path) == 2 and path[0] in _KINDS else place.kinds if place else ()
    what = _SINGULAR[str(path[0])] if len(path) == 2 and path[0] in SECTIONS else str(path[-1])
    given = at_path(root, (*path, "kind"))
    if given is None:
        hint = f"add 'kind: ...'; kinds: {listed(kinds, 30)}"
        session.error(
            "GL105",
            f"{what} has no kind" if len(path) != 2 else f"{what} '{path[-1]}' has no kind",
            places.key(path),
            hint,
        )
        return
    at = places.value((*path, "kind"))
    all_kinds = f"kinds: {listed(kinds, 30)}"
    hint = did_you_mean(str(given), kinds, all_kinds)
    notes = (all_kinds,) if hint != all_kinds else ()
    session.error("GL104", f"unknown {what} kind {show(given)}", at, hint, notes)


_BOUNDS = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "finite_number"}
_LENGTHS = {"too_long", "too_short"}


def _wrong_value(fault: _Fault, root: Mapping, places: Places, session: Session, notes: tuple[str, ...]) -> None:
    value = at_path(root, fault.path)
    node = places.node(fault.path)
    given = _as_written(node) if isinstance(node, Scalar) else show(value)
    label = _label(fault.path)
    wants = expected(fault.place) if fault.place else "another value"
    at = places.value(fault.path)
    choices = _choices(fault.place)
    if fault.message:
        session.error("GL106", f"{label}: {fault.message}", at, notes=notes)
    elif fault.type in _BOUNDS:
        session.error("GL106", f"{label} must be {wants}, not {given}", at, notes=notes)
    elif fault.type in _LENGTHS:
        session.error("GL106", f"{label} must be {wants}, not {len(value or ())} of them", at, notes=notes)
    elif fault.type == "string_pattern_mismatch":
        hint = (
            "auto, cpu, cuda or cuda:N" if fault.path == ("device",) else "letters, digits, '_' and '-', a letter first"
        )
        session.error("GL108", f"{label} cannot be {show(value)}", at, hint, notes)
    elif choices and isinstance(value, str):
        session.error("GL107", f"{label} must be {wants}, not {show(value)}", at, did_you_mean(value, choices), notes)
    else:
        described = f"the text {show(value)}" if isinstance(value, str) else given
        session.error("GL102", f"{label} must be {wants}, not {described}", at, _remedy(fault, value, node), notes)


def _label(path: Path) -> str:
    if not path:
        return "the spec"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of '{path[-2]}'"
    return f"'{path[-1]}'"


def _choices(place: Shape | None) -> tuple[str, ...]:
    found: list[str] = []
    for member in place.members if place else ():
        if get_origin(member.type) is Literal:
            found += [arg for arg in get_args(member.type) if isinstance(arg, str)]
    return (*found, *(place.registered.names() if place and place.registered else ()))


_SUFFIX = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def _remedy(fault: _Fault, value: Any, node: Node | None) -> str:
    """Return a hint for a value of the wrong type, from its likely meaning; empty where there is none."""
    if fault.place and (described := takes(fault.place)):
        return f"remove the quotes: {value}" if isinstance(value, str) and value.isdigit() else described.remedy
    types = {m.type for m in fault.place.members} if fault.place else set()
    if isinstance(value, str) and types & {int, float}:
        try:
            number = float(value)
        except ValueError:
            digits, suffix = value[:-1].replace("_", ""), value[-1:].lower()
            if digits.isdigit() and suffix in _SUFFIX:
                return f"write {int(digits) * _SUFFIX[suffix]}"
            if value.replace("_", "").replace(",", "").isdigit():
                return f"write {value.replace('_', '').replace(',', '')}"
            return "numbers stand without units" if value[:1].isdigit() else ""
        return f"remove the quotes: {int(number) if number.is_integer() and int in types else value}"
    if isinstance(value, float) and int in types and value.is_integer() and abs(value) < 1e15:
        return f"write {int(value)}"
    if isinstance(value, str) and bool in types:
        return {"yes": "write true", "on": "write true", "no": "write false", "off": "write false"}.get(
            value.lower(), "remove the quotes" if value in ("true", "false") else ""
        )
    if fault.place and fault.place.is_list and isinstance(value, str):
        return f"write [{value}]"
    if str in types and isinstance(node, Scalar) and node.written:
        return f'quote it: "{_as_written(node)}"'
    return ""
