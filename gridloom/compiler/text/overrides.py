"""`--set path=value` on a tree: only keys that the language declares, typed as YAML, never a silent typo."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.kinds import language_of
from gridloom.compiler.text.load import parse_value
from gridloom.compiler.text.tree import Entry, Mapping, Node, Path, Scalar, Sequence, dotted
from gridloom.diagnostics import Span
from gridloom.specs.fields import Shape, field_shape, has_key, keys, kind_of, known_keys, shape
from gridloom.wording import listed, nearest

_FIXED = {
    "extends": "it is resolved before overrides",
    "gridloom": "it is the version of the language",
}


class UnknownPathError(Exception):
    """A path that leads nowhere; holds the step that failed and what could stand there."""

    def __init__(self, depth: int, message: str, names: tuple[str, ...]) -> None:
        self.depth, self.message, self.names = depth, message, names


def apply_override(root: Mapping, argument: str, session: Session) -> Mapping:
    """Set one value. Records GL040-GL042 and returns the tree unchanged where the argument is no good."""
    source = f"--set {argument}"
    name, equals, text = argument.partition("=")
    name = name.strip()
    start = len("--set ") + 1
    name_at = Span(source, 1, start, start + max(len(name), 1), source)
    if not equals or not name:
        session.error("GL040", f"'{argument}' is not PATH=VALUE", name_at, "write: --set stages.pretrain.steps=500")
        return root
    value = _parse(text, source, len("--set ") + len(argument) - len(text), session)
    if value is None:
        return root
    path = path_of(name)
    try:
        return set_value(root, path, value, name_at, session)
    except UnknownPathError as unknown:
        _report(root, path, unknown, name_at, session)
        return root


def path_of(name: str) -> Path:
    """Return the path that a name with dots means; what follows `sweep.` is one key, itself a path."""
    head, dot, rest = name.partition(".")
    return ("sweep", rest.strip('"')) if head == "sweep" and dot else tuple(name.split("."))


def _parse(text: str, source: str, shift: int, session: Session) -> Node | None:
    found = Session(session.facts)  # of its own: the session leaves out what an equal argument had wrong before
    try:
        node = parse_value(text, source, found, line_text=source, shift=shift)
    except Stop:
        problem = found.diagnostics[0]
        message = f"the value is not YAML: {problem.message.removeprefix('not YAML: ')}"
        session.error("GL042", message, problem.span, problem.hint)
        return None
    for problem in found.diagnostics:
        session.add(problem)
    if found.diagnostics:
        return None
    end = len(source) + 1
    return node if node is not None else Scalar(None, Span(source, 1, shift + 1, max(end, shift + 2), source))


def _report(root: Mapping, path: Path, unknown: UnknownPathError, at: Span, session: Session) -> None:
    ends = _paths_to(root, str(path[0])) if len(path) == 1 else []
    hint = f"name its whole path: {listed(ends, 6)}" if ends else explain_path(path, unknown)
    session.error("GL041", unknown.message, at, hint)


def _paths_to(node: Node | None, key: str, at: Path = ()) -> list[str]:
    """Return the paths of a tree that end with a key, as an axis of `-m` may name them."""
    found = []
    for name, entry in node.entries.items() if isinstance(node, Mapping) else ():
        if at and name == key:
            found.append(dotted((*at, name)))
        found += _paths_to(entry.value, key, (*at, name))
    return found


def explain_path(path: Path, unknown: UnknownPathError) -> str:
    """Return a hint for a path that leads nowhere: the nearest one that does, or what is known there."""
    near = nearest(str(path[unknown.depth]), unknown.names)
    if near:
        return f"did you mean '{dotted((*path[: unknown.depth], near, *path[unknown.depth + 1 :]))}'?"
    return f"known here: {listed(unknown.names)}" if unknown.names else ""


def set_value(root: Mapping, path: Path, value: Node, at: Span, session: Session) -> Mapping:
    """Return the tree with `value` at `path`, whose keys must exist or be declared. Raises UnknownPathError."""
    if path[0] in _FIXED:
        raise UnknownPathError(0, f"'{path[0]}' cannot be set: {_FIXED[str(path[0])]}", ())
    result = _set(root, shape(language_of(root, session)), None, path, 0, value, at)
    assert isinstance(result, Mapping)
    return result


def _set(node: Node | None, place: Shape | None, default: Any, path: Path, depth: int, value: Node, at: Span) -> Node:
    if depth == len(path):
        is_null = isinstance(value, Scalar) and value.value is None
        return replace(value, unsets=True) if is_null and isinstance(value, Scalar) and node is not None else value
    step = str(path[depth])
    if isinstance(node, Sequence):
        return _set_item(node, place, path, depth, value, at)
    if node is None and isinstance(default, BaseModel):
        node = _written_out(default, at)
    if node is not None and not isinstance(node, Mapping):
        if isinstance(node, Scalar) and node.value is None:
            node = Mapping({}, at)
        else:
            raise UnknownPathError(depth, f"'{dotted(path[:depth])}' is a single value and has no '{step}'", ())
    entries = dict(node.entries) if node else {}
    child, inner, inner_default = _declared(entries, place, path, depth)
    removes = place is not None and place.is_dict and isinstance(value, Scalar) and value.value is None
    if node and removes and step in entries and depth + 1 == len(path):  # as `name: null` over a base does
        del entries[step]
        return replace(node, entries=entries)
    new = _set(child, inner, inner_default, path, depth + 1, value, at)
    entries[step] = Entry(at if step not in entries or depth + 1 == len(path) else entries[step].key_span, new)
    return replace(node, entries=entries) if node else Mapping(entries, at)


def _declared(
    entries: dict[str, Entry], place: Shape | None, path: Path, depth: int
) -> tuple[Node | None, Shape | None, Any]:
    """Return what stands at a step now, what may stand there, and its default."""
    step = str(path[depth])
    child = entries[step].value if step in entries else None
    where = f"'{dotted(path[:depth])}'" if depth else "the spec"
    if place is None:  # below a variable anything goes, as long as it is there
        if child is None:
            raise UnknownPathError(depth, f"{where} has no '{step}'", tuple(entries))
        return child, None, None
    if place.is_dict:
        if child is None and path[:depth] == ("sweep",):  # an axis may be new
            return None, None, None
        if child is None:
            raise UnknownPathError(depth, f"there is no '{step}' in {dotted(path[:depth])}", tuple(entries))
        return child, _known(place.values), None
    kind_entry = entries.get("kind")
    kind = kind_entry.value.value if kind_entry and isinstance(kind_entry.value, Scalar) else None
    model = place.model(kind)
    if model is None:
        names = tuple(dict.fromkeys([*entries, *(key for m in place.models for key in keys(m))]))
        if step not in names:
            raise UnknownPathError(depth, f"{where} has no '{step}'", names)
        return child, None, None
    if not has_key(model, step):
        label = kind_of(model)
        raise UnknownPathError(
            depth, f"{where}{f' of kind {label}' if label else ''} has no '{step}'", known_keys(model)
        )
    field = keys(model).get(step)
    return child, _known(field_shape(model, step)), field.get_default(call_default_factory=True) if field else None


def _known(place: Shape | None) -> Shape | None:
    """Forget a shape that takes anything, such as a variable's."""
    return None if place is None or any(m.type is Any for m in place.members) else place


def _set_item(node: Sequence, place: Shape | None, path: Path, depth: int, value: Node, at: Span) -> Node:
    step = str(path[depth])
    if not step.isdigit() or int(step) >= len(node.items):
        many = f"items 0 to {len(node.items) - 1}" if node.items else "no items"
        raise UnknownPathError(depth, f"'{dotted(path[:depth])}' is a list with {many}, not '{step}'", ())
    i = int(step)
    new = _set(node.items[i], _known(place.values) if place else None, None, path, depth + 1, value, at)
    return replace(node, items=(*node.items[:i], new, *node.items[i + 1 :]))


def _written_out(default: BaseModel, at: Span) -> Mapping:
    """Turn a default block into tree form, so that setting one of its keys leaves the others as they were."""
    written = _tree(default.model_dump(mode="json", by_alias=True), at)
    assert isinstance(written, Mapping)
    return written


def _tree(value: Any, at: Span) -> Node:
    if isinstance(value, dict):
        return Mapping({k: Entry(at, _tree(v, at)) for k, v in value.items()}, at)
    if isinstance(value, list):
        return Sequence(tuple(_tree(v, at) for v in value), at)
    return Scalar(value, at)
