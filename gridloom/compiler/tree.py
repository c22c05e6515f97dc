"""The tree of a spec between YAML and the models: plain values that remember where they were written."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, field
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


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Yield every node below and including `node` with its path, parents first."""
    yield path, node
    if isinstance(node, Mapping):
        for key, entry in node.entries.items():
            yield from walk(entry.value, (*path, key))
    elif isinstance(node, Sequence):
        for i, item in enumerate(node.items):
            yield from walk(item, (*path, i))


@dataclass(frozen=True, slots=True)
class Places:
    """Where every path of a composed spec was written."""

    values: AbstractMapping[Path, Span] = field(default_factory=dict)
    keys: AbstractMapping[Path, Span] = field(default_factory=dict)
    via: AbstractMapping[Path, tuple[Span, ...]] = field(default_factory=dict)
    holes: frozenset[Path] = frozenset()

    @classmethod
    def of(cls, root: Mapping) -> Places:
        """Index a composed tree."""
        values: dict[Path, Span] = {}
        keys: dict[Path, Span] = {}
        via: dict[Path, tuple[Span, ...]] = {}
        holes: set[Path] = set()
        for path, node in walk(root):
            values[path] = node.span
            if node.via:
                via[path] = node.via
            if isinstance(node, Hole):
                holes.add(path)
            if isinstance(node, Mapping):
                for key, entry in node.entries.items():
                    keys[(*path, key)] = entry.key_span
        return cls(values, keys, via, frozenset(holes))

    def value(self, path: Path) -> Span | None:
        """Return where the value at `path` was written; for a default, the key of the nearest written parent."""
        if path in self.values:
            return self.values[path]
        return self.key(path)

    def key(self, path: Path) -> Span | None:
        """Return where the key at `path` was written, or the nearest parent's."""
        while path:
            if path in self.keys:
                return self.keys[path]
            if path in self.values and isinstance(path[-1], int):
                return self.values[path]
            path = path[:-1]
        return None

    def used_at(self, path: Path) -> tuple[str, ...]:
        """Return notes that say where a value that came through a variable is used."""
        return tuple(f"used at {span}" for span in self.via.get(path, ()))


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
