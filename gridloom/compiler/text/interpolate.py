"""Interpolation of `${vars.NAME}`: a whole value keeps its type and position; inside a text the value is written
out."""

from __future__ import annotations

import re
from dataclasses import replace

from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.load import MAX_DEPTH, MAX_VALUES
from gridloom.compiler.text.tree import (
    CHARACTERS,
    Entry,
    Hole,
    Mapping,
    Node,
    Scalar,
    Sequence,
    mapping_size,
    text_size,
)
from gridloom.diagnostics import Span
from gridloom.wording import did_you_mean

_USE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
MAX_CHAIN = 40
"""Longest chain of variables that use one another."""
MAX_MADE = 4_000_000
"""Largest number of values that all variants of a sweep may write anew."""


def interpolate(root: Mapping, session: Session) -> Mapping:
    """Replace every use of a variable. Records GL034-GL038 and leaves a Hole where a value cannot be resolved.

    What variables stand for is bounded as aliases are: in size, in depth, and in the length of a chain of them. Raises
    Stop where the whole is too large.
    """
    filler = _Filler(root, session)
    entries: dict[str, Entry] = {}
    for key, entry in root.entries.items():
        value: Node
        if key == "vars" and filler.broken:
            value = entry.value  # unchanged, for validation to refuse
        elif key == "vars" and isinstance(entry.value, Mapping):
            value = replace(
                entry.value,
                entries={name: Entry(e.key_span, filler.variable(name, 2)) for name, e in entry.value.entries.items()},
            )
            value = replace(value, size=mapping_size(value.entries))
        else:
            value = filler.fill(entry.value, 1)
        entries[key] = entry if value is entry.value else Entry(entry.key_span, value)
    size = mapping_size(entries)
    if size > MAX_VALUES and not session.failed:
        session.error("GL038", f"with its variables the spec holds more than {MAX_VALUES:,} values", root.span)
        raise Stop
    return replace(root, entries=entries, size=size)


class _Filler:
    """Variables of one spec, each resolved once."""

    def __init__(self, root: Mapping, session: Session) -> None:
        node = root.get("vars")
        self.broken = node is not None and not isinstance(node, Mapping)
        self.written = {name: e.value for name, e in node.entries.items()} if isinstance(node, Mapping) else {}
        self.done: dict[str, Node] = {}
        self.open: list[str] = []
        self.session = session
        self.depths: dict[int, int] = {}
        self.links: dict[str, int] = {}
        """Length of the longest chain that starts at each variable."""
        self.is_too_far = False

    def variable(self, name: str, level: int) -> Node:
        """Return a variable's value with the variables inside it replaced; `level` is the depth where it is used."""
        if name in self.done:
            return self.done[name]
        self.open.append(name)
        self.links[name] = 1
        self.done[name] = self.fill(self.written[name], level)
        self.open.pop()
        return self.done[name]

    def depth(self, node: Node) -> int:
        """Return the number of levels of a variable's value."""
        if not isinstance(node, Mapping | Sequence):
            return 1
        if id(node) not in self.depths:
            inner = [e.value for e in node.entries.values()] if isinstance(node, Mapping) else node.items
            self.depths[id(node)] = 1 + max(map(self.depth, inner), default=0)
        return self.depths[id(node)]

    def fill(self, node: Node, level: int) -> Node:
        if id(node) in self.session.without_variables:
            return node
        filled = self.filled(node, level)
        if filled is node and not isinstance(node, Scalar):
            # variants of a sweep share most of their tree, so each part is searched once
            self.session.without_variables[id(node)] = node
        return filled

    def filled(self, node: Node, level: int) -> Node:
        if isinstance(node, Mapping):
            filled = {key: self.fill(entry.value, level + 1) for key, entry in node.entries.items()}
            if all(filled[key] is entry.value for key, entry in node.entries.items()):
                return node
            entries = {k: Entry(e.key_span, filled[k]) for k, e in node.entries.items()}
            return self.bounded(replace(node, entries=entries, size=mapping_size(entries)), len(entries))
        if isinstance(node, Sequence):
            items = tuple(self.fill(item, level + 1) for item in node.items)
            if all(a is b for a, b in zip(items, node.items, strict=True)):
                return node
            return self.bounded(replace(node, items=items, size=1 + sum(item.size for item in items)), len(items))
        if isinstance(node, Scalar) and isinstance(node.value, str) and "${" in node.value:
            return self.text(node, node.value, level)
        return node

    def bounded(self, node: Mapping | Sequence | Scalar, num_new: int) -> Node:
        """Return a value made of variables, or a Hole for one that is too large; counts what was made in all."""
        self.session.values_made += 1 + num_new
        if self.session.values_made > MAX_MADE:
            self.session.error(
                "GL038", f"variables stand for more than {MAX_MADE:,} values in all", node.span, _SMALLER
            )
            raise Stop
        return self.too_far(f"{MAX_VALUES:,} values", node.span) if node.size > MAX_VALUES else node

    def too_far(self, bound: str, at: Span) -> Hole:
        if not self.is_too_far:  # what is made of it is as large
            self.session.error("GL038", f"variables in variables expand to more than {bound}", at, _SMALLER)
        self.is_too_far = True
        return Hole(at)

    def text(self, node: Scalar, text: str, level: int) -> Node:
        whole = _USE.fullmatch(text)
        if whole and whole[1] is not None:
            value = self.use(whole, node, level)
            if isinstance(value, Hole):
                return Hole(node.span)
            return replace(value, via=(*value.via, node.span))
        parts: list[str] = []
        sources: list[Span] = []
        end = size = 0
        for match in _USE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[1] is None:
                parts.append("${")
                continue
            value = self.use(match, node, level)
            if isinstance(value, Hole):
                return Hole(node.span)
            if not isinstance(value, Scalar):
                self.session.error(
                    "GL036",
                    f"'{match[1]}' is a {_noun(value)} and cannot stand inside a text",
                    self.at(match, node),
                    "use it as the whole value",
                )
                return Hole(node.span)
            parts.append(_written(value))
            size += len(parts[-1])
            if size // CHARACTERS > MAX_VALUES:
                return self.too_far(f"{MAX_VALUES * CHARACTERS:,} characters", node.span)
            # only values of a sweep are looked for; each is noted once, since texts of a chain can double at each link
            sources += [at for at in (*value.parts, *value.via) if at.source.startswith("sweep ")]
        made = "".join([*parts, text[end:]])
        found = tuple(dict.fromkeys(sources))
        size = 1 + text_size(made)
        return self.bounded(Scalar(made, node.span, plain=False, parts=found, size=size), text_size(made))

    def use(self, match: re.Match[str], node: Scalar, level: int) -> Node:
        """Return the value of one `${vars.NAME}`, or a Hole after recording a diagnostic."""
        inner = match[1].strip()
        section, dot, name = inner.partition(".")
        if not match[2]:
            self.session.error(
                "GL035",
                f"'{match[0]}' is never closed",
                self.at(match, node),
                "write ${vars.NAME}, or $${ for a plain '${'",
            )
        elif section != "vars" or not dot or not name:
            hint = f"did you mean '${{vars.{inner}}}'?" if inner in self.written else "only ${vars.NAME} is replaced"
            self.session.error("GL035", f"'{match[0]}' is not a variable", self.at(match, node), hint)
        elif name in self.open:
            loop = " -> ".join([*self.open[self.open.index(name) :], name])
            self.session.error("GL037", f"variables form a cycle: {loop}", self.at(match, node))
        elif self.broken:
            pass  # `vars` itself is of a wrong type, which validation reports
        elif name not in self.written:
            known = f"variables: {', '.join(self.written)}" if self.written else "this spec has no `vars`"
            hint = did_you_mean(name, tuple(self.written), known)
            self.session.error("GL034", f"unknown variable '{name}'", self.at(match, node), hint)
        elif name not in self.done and len(self.open) >= MAX_CHAIN:
            self.too_far(f"a chain of {MAX_CHAIN}", self.at(match, node))
        else:
            value = self.variable(name, level)
            chain = self.links[name] + (1 if self.open else 0)
            if self.open:
                self.links[self.open[-1]] = max(self.links[self.open[-1]], chain)
            if chain > MAX_CHAIN:
                return self.too_far(f"a chain of {MAX_CHAIN}", self.at(match, node))
            if level + self.depth(value) - 1 <= MAX_DEPTH:
                return value
            self.too_far(f"{MAX_DEPTH} levels", self.at(match, node))
        return Hole(node.span)

    def at(self, match: re.Match[str], node: Scalar) -> Span:
        """Return the position of one use inside its text, or of the whole text where escapes hide the position."""
        start = node.span.text.find(match[0], node.span.column - 1)
        if start < 0:
            return node.span
        return replace(node.span, column=start + 1, end_column=start + 1 + len(match[0]))


_SMALLER = "write the value out, or use fewer variables"


def _noun(node: Node) -> str:
    return "mapping" if isinstance(node, Mapping) else "list"


def _written(node: Scalar) -> str:
    if node.value is None:
        return "null"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    return node.written or str(node.value)  # 00576224 and 1e5 are written out as they stand in the spec
