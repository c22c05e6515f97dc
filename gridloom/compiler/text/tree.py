"""The tree of a spec between YAML and the models: plain values that remember where they were written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gridloom.diagnostics import Span

Path = tuple[str | int, ...]
"""Keys and list indices from the top of the spec, as a user would write them."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, number, boolean or null."""

    value: str | int | float | bool | None
    span: Span
    plain: bool = True
    """Written without quotes."""
    via: tuple[Span, ...] = ()
    """Where `${vars.x}` brought the value in; `span` is where the value itself was written."""
    parts: tuple[Span, ...] = ()
    """Where the variables inside a text were written."""
    size: int = 1


@dataclass(frozen=True, slots=True)
class Hole:
    """A value that could not be worked out; its problem is reported already, and later passes look away."""

    span: Span
    via: tuple[Span, ...] = ()
    size: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    span: Span
    via: tuple[Span, ...] = ()
    size: int = 1
    """Values below and including this one, aliases expanded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping with its value."""

    key_span: Span
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys and values in the order they were written."""

    entries: dict[str, Entry]
    span: Span
    via: tuple[Span, ...] = ()
    size: int = 1

    def get(self, key: str) -> Node | None:
        """Return the value of `key`, or None."""
        entry = self.entries.get(key)
        return entry.value if entry else None


Node = Scalar | Hole | Sequence | Mapping


def to_plain(node: Node) -> Any:
    """Turn a tree into dicts, lists and scalars; holes are left out."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Sequence):
        return [to_plain(item) for item in node.items if not isinstance(item, Hole)]
    if isinstance(node, Mapping):
        return {k: to_plain(e.value) for k, e in node.entries.items() if not isinstance(e.value, Hole)}
    return None


def walk(root: Node) -> Iterator[tuple[Path, Node]]:
    """Yield every node below and including `root` with its path, parents first."""
    todo: list[tuple[Path, Node]] = [((), root)]
    while todo:
        path, node = todo.pop()
        yield path, node
        if isinstance(node, Mapping):
            todo += [((*path, key), entry.value) for key, entry in reversed(node.entries.items())]
        elif isinstance(node, Sequence):
            todo += [((*path, i), item) for i, item in reversed(list(enumerate(node.items)))]


@dataclass(frozen=True, slots=True)
class Places:
    """Where every path of a composed spec was written; looked up in its tree, since most are never asked for."""

    root: Mapping

    def spans(self) -> dict[Path, Span]:
        """Return where the value of every written path stands."""
        return {path: node.span for path, node in walk(self.root)}

    def holes(self) -> frozenset[Path]:
        """Return the paths whose values could not be worked out."""
        return frozenset(path for path, node in walk(self.root) if isinstance(node, Hole))

    def node(self, path: Path) -> Node | None:
        """Return what was written at a path, or None."""
        node: Node | None = self.root
        for step in path:
            if isinstance(node, Mapping):
                node = node.get(str(step))
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
            else:
                return None
        return node

    def value(self, path: Path) -> Span | None:
        """Return where the value at `path` was written; for a default, the key of the nearest written parent."""
        node = self.node(path)
        return node.span if node is not None else self.key(path)

    def key(self, path: Path) -> Span | None:
        """Return where the key at `path` was written, or the nearest parent's."""
        while path:
            parent = self.node(path[:-1])
            if isinstance(parent, Mapping) and path[-1] in parent.entries:
                return parent.entries[str(path[-1])].key_span
            if isinstance(parent, Sequence) and (item := self.node(path)) is not None:
                return item.span
            path = path[:-1]
        return None

    def used_at(self, path: Path) -> tuple[str, ...]:
        """Return notes that say where a value that came through a variable is used."""
        node = self.node(path)
        return tuple(_via_note(span) for span in node.via) if node is not None else ()


def _via_note(span: Span) -> str:
    return f"in {span.source}" if span.source.startswith("sweep ") else f"used at {span}"


def dotted(path: Path) -> str:
    """Write a path as `--set` takes it."""
    return ".".join(str(part) for part in path)


def show(value: Any) -> str:
    """Write a value as a person would in YAML, at most 60 characters."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f"'{value}'"
    elif isinstance(value, dict):
        text = "a mapping"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(v) for v in value[:8]) + (", ...]" if len(value) > 8 else "]")
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
