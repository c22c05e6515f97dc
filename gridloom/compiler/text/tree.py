"""Tree of a spec between YAML and the models: plain values with their positions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from gridloom.diagnostics import Span

CHARACTERS = 64
"""Characters of text that weigh as much as one value in the bounds on size."""
Path = tuple[str | int, ...]
"""Keys and list indices from the top of the spec, as a user writes them."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, number, boolean or null."""

    value: str | int | float | bool | None
    span: Span
    plain: bool = True
    """Whether the value was written without quotes."""
    via: tuple[Span, ...] = ()
    """Positions of the uses `${vars.x}` that led to the value; `span` is the position of the value itself."""
    parts: tuple[Span, ...] = ()
    """Positions in a sweep of the values of the variables inside a text."""
    size: int = 1
    written: str | None = None
    """Source text of an unquoted value that is no text, such as `1e5`, `0o17` or `null`."""
    unsets: bool = False
    """Whether the value is a null over another value, which restores the default of a field that takes no null."""


@dataclass(frozen=True, slots=True)
class Hole:
    """A value that could not be resolved; its diagnostic is recorded already, and later passes skip the value."""

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
    """Number of values below and including this one, aliases expanded."""


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


def text_size(text: str) -> int:
    """Return the size of a text beside the value itself."""
    return len(text) // CHARACTERS


def mapping_size(entries: dict[str, Entry]) -> int:
    """Return the number of values of a mapping and below; texts and keys add to it by their length."""
    return 1 + sum(entry.value.size + text_size(key) for key, entry in entries.items())


def to_plain(node: Node) -> Any:
    """Return a tree as dicts, lists and scalars; holes are left out."""
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
        if type(node) is Mapping:
            todo += [((*path, key), entry.value) for key, entry in reversed(node.entries.items())]
        elif type(node) is Sequence:
            todo += [((*path, i), node.items[i]) for i in range(len(node.items) - 1, -1, -1)]


@dataclass(frozen=True, slots=True)
class Places:
    """Positions of all paths of a composed spec, looked up in its tree on demand."""

    root: Mapping

    def spans(self) -> dict[Path, Span]:
        """Return the position of the value of every written path."""
        return {path: node.span for path, node in walk(self.root)}

    def holes(self) -> frozenset[Path]:
        """Return the paths whose values could not be resolved."""
        return frozenset(path for path, node in walk(self.root) if isinstance(node, Hole))

    def node(self, path: Path) -> Node | None:
        """Return the node written at a path, or None."""
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
        """Return the position of the value at `path`; for a default, of the key of the nearest written parent."""
        node = self.node(path)
        return node.span if node is not None else self.key(path)

    def key(self, path: Path) -> Span | None:
        """Return the position of the key at `path`, or of the nearest written parent."""
        while path:
            parent = self.node(path[:-1])
            if isinstance(parent, Mapping) and path[-1] in parent.entries:
                return parent.entries[str(path[-1])].key_span
            if isinstance(parent, Sequence) and (item := self.node(path)) is not None:
                return item.span
            path = path[:-1]
        return None

    def used_at(self, path: Path) -> tuple[str, ...]:
        """Return notes with the positions at which a value from a variable is used."""
        node = self.node(path)
        return tuple(_via_note(span) for span in node.via) if node is not None else ()


def _via_note(span: Span) -> str:
    return f"in {span.source}" if span.source.startswith("sweep ") else f"used at {span}"


def dotted(path: Path) -> str:
    """Return a path in the form of `--set`."""
    return ".".join(str(part) for part in path)


def show(value: Any) -> str:
    """Return a value in YAML notation, at most 60 characters."""
    if value is None:
        text = "null"
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, str):
        text = f"'{''.join(c if c.isprintable() else ascii(c)[1:-1] for c in value[:60])}'"
    elif isinstance(value, dict):
        text = "a mapping"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(show(v) for v in value[:8]) + (", ...]" if len(value) > 8 else "]")
    else:
        text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
