"""Messages on refused values: what is wanted at the place, and a remedy from the likely meaning of the value."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from gridloom.compiler.session import Session
from gridloom.compiler.text.tree import Mapping, Node, Path, Places, Scalar, show
from gridloom.compiler.values.faults import SECTIONS, Fault, as_written, at_path, label_of
from gridloom.plugins import Registry
from gridloom.runtime.models.kind import MODELS
from gridloom.specs.fields import Shape, doc, expected, field_shape, has_key, keys, known_keys, shape, takes
from gridloom.specs.kinds import STAGES
from gridloom.wording import did_you_mean, listed, nearest

_KINDS: dict[str | int, Registry[Any]] = {"models": MODELS, "stages": STAGES}
"""Registries by section."""
_SINGULAR = {"data": "data", "models": "model", "stages": "stage"}


def report_faults(faults: list[Fault], root: Mapping, places: Places, session: Session) -> None:
    for fault in faults:
        if fault.path == ("gridloom",) and fault.type == "literal_error":
            continue  # reported as GL110
        if fault.type == "too_short" and any(_is_below(other.path, fault.path) for other in faults):
            continue  # refused items are not counted
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


def _is_below(path: Path, above: Path) -> bool:
    return len(path) > len(above) and path[: len(above)] == above


def _is_oracle(fault: Fault, root: Mapping) -> bool:
    """Return whether a solve stage asks for a verifier that reads the answers, for which no key or value exists."""
    if fault.path[:1] != ("stages",) or at_path(root, (*fault.path[:2], "kind")) != "solve":
        return False
    return "oracle" in (fault.path[-1], at_path(root, fault.path))


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
    return f"'{_place(path)}'"


def _place(path: Path) -> str:
    """Return the last name of a path, of an item with its list: `sources[0]`."""
    return f"{path[-2]}[{path[-1]}]" if isinstance(path[-1], int) and len(path) > 1 else str(path[-1])


def _unknown_key(fault: Fault, root: Mapping, places: Places, session: Session) -> None:
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


def _missing(fault: Fault, root: Mapping, places: Places, session: Session) -> None:
    parent, key = fault.path[:-1], str(fault.path[-1])
    model = fault.owner.model() if fault.owner else None
    where = noun(parent, fault.owner, root)
    name = f" '{parent[-1]}'" if len(parent) == 2 and parent[0] in SECTIONS else ""
    at = places.key(parent) if parent else root.span
    hint = f"{key}: {_lower_first(doc(model, key))}" if model else ""
    session.error("GL103", f"{where}{name} needs '{key}'", at, hint)


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _wrong_kind(fault: Fault, root: Mapping, places: Places, session: Session) -> None:
    path = fault.path if fault.path[-1:] != ("kind",) else fault.path[:-1]
    place = fault.place if path == fault.path else fault.owner
    # the kinds of other packages are listed for a mistake alone: reading entry points takes a while
    kinds = _KINDS[path[0]].names() if len(path) == 2 and path[0] in _KINDS else place.kinds if place else ()
    what = _SINGULAR[str(path[0])] if len(path) == 2 and path[0] in SECTIONS else _place(path)
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


def _wrong_value(fault: Fault, root: Mapping, places: Places, session: Session, notes: tuple[str, ...]) -> None:
    value = at_path(root, fault.path)
    node = places.node(fault.path)
    given = as_written(node) if isinstance(node, Scalar) else show(value)
    label = label_of(fault.path)
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


def _choices(place: Shape | None) -> tuple[str, ...]:
    found: list[str] = []
    for member in place.members if place else ():
        if get_origin(member.type) is Literal:
            found += [arg for arg in get_args(member.type) if isinstance(arg, str)]
    return (*found, *(place.registered.names() if place and place.registered else ()))


_SUFFIX = {"k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


def _remedy(fault: Fault, value: Any, node: Node | None) -> str:
    """Return a hint for a value of the wrong type, from its likely meaning; empty where there is none."""
    if fault.place and (described := takes(fault.place)):
        return f"remove the quotes: {value}" if isinstance(value, str) and value.isdigit() else described.remedy
    if value is None and _has_default(fault):
        key = fault.path[-1]
        return f"null takes back the value of a base, and there is none here: leave '{key}' out for its default"
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
        return f'quote it: "{as_written(node)}"'
    return ""


def _has_default(fault: Fault) -> bool:
    """Return whether the place is a field that may be left out."""
    model, key = fault.owner.model() if fault.owner else None, str(fault.path[-1]) if fault.path else ""
    return model is not None and has_key(model, key) and not keys(model)[key].is_required()
