"""Tree -> spec models: a diagnostic with its position for every unknown key, wrong type and value out of range.

pydantic validates; the messages are written here from the fields' types. Refused values are removed and the rest is
validated again, so that later passes report on the sound parts as well.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import ValidationError

from gridloom.compiler.language import Spec
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.kinds import language_of
from gridloom.compiler.text.tree import Mapping, Path, Places, Scalar, show, to_plain, walk
from gridloom.compiler.values.faults import SECTIONS, Fault, as_written, faults_of, label_of
from gridloom.compiler.values.report import report_faults
from gridloom.specs.base import CHECK_NAMES

LANGUAGE_VERSION = 1
MAX_INTEGER, MAX_NUMBER = 2**63 - 1, 1e38
"""Largest size of an integer and of another number in a field."""


class Validated(NamedTuple):
    """A spec, or the sound part of a spec."""

    spec: Spec
    places: Places
    names: dict[str, tuple[str, ...]]
    """All written names by section, including those of refused entries, which are not in `spec`."""
    shaky: frozenset[tuple[str, str]] = frozenset()
    """(section, name) of entries with a refused value; rules skip these entries."""


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
            faults = faults_of(error, model)
            if unset := [fault for fault in faults if _restores_default(fault, places)]:
                before = json.dumps(plain)
                for fault in unset:
                    _remove(plain, fault.path)
                if json.dumps(plain) != before:
                    continue
            refused |= {fault.path for fault in faults}
        if first:
            report_faults(
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


def _restores_default(fault: Fault, places: Places) -> bool:
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
                message = f"{label_of(path)} is too large a number: {as_written(node)}"
                hint = f"numbers of a spec have a size of at most {bound:.0e}"
                session.error("GL106", message, node.span, hint, places.used_at(path))
                found.add((str(path[0]), str(path[1]) if len(path) > 1 else ""))
    return found


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


def _cut(plain: Any, fault: Fault) -> None:
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
        _cut(plain, Fault(path[:-1], "cut", None, None))
