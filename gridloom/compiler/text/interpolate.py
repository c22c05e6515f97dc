"""Interpolation of `${vars.NAME}`: a whole value keeps its type and position; inside a text the value is written
out."""

from __future__ import annotations

import re
from dataclasses import replace

from gridloom.compiler.session import Session
from gridloom.compiler.text.tree import Entry, Hole, Mapping, Node, Scalar, Sequence
from gridloom.diagnostics import Span
from gridloom.wording import did_you_mean

_USE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")


def interpolate(root: Mapping, session: Session) -> Mapping:
    """Replace every use of a variable. Records GL034-GL037 and leaves a Hole where a value cannot be resolved."""
    filler = _Filler(root, session)
    entries: dict[str, Entry] = {}
    for key, entry in root.entries.items():
        value: Node
        if key == "vars" and filler.broken:
            value = entry.value  # unchanged, for validation to refuse
        elif key == "vars" and isinstance(entry.value, Mapping):
            value = replace(
                entry.value,
                entries={name: Entry(e.key_span, filler.variable(name)) for name, e in entry.value.entries.items()},
            )
        else:
            value = filler.fill(entry.value)
        entries[key] = entry if value is entry.value else Entry(entry.key_span, value)
    return replace(root, entries=entries)


class _Filler:
    """Variables of one spec, each resolved once."""

    def __init__(self, root: Mapping, session: Session) -> None:
        node = root.get("vars")
        self.broken = node is not None and not isinstance(node, Mapping)
        self.written = {name: e.value for name, e in node.entries.items()} if isinstance(node, Mapping) else {}
        self.done: dict[str, Node] = {}
        self.open: list[str] = []
        self.session = session

    def variable(self, name: str) -> Node:
        """Return a variable's value with the variables inside it replaced."""
        if name in self.done:
            return self.done[name]
        self.open.append(name)
        self.done[name] = self.fill(self.written[name])
        self.open.pop()
        return self.done[name]

    def fill(self, node: Node) -> Node:
        if id(node) in self.session.without_variables:
            return node
        filled = self.filled(node)
        if filled is node and not isinstance(node, Scalar):
            # variants of a sweep share most of their tree, so each part is searched once
            self.session.without_variables[id(node)] = node
        return filled

    def filled(self, node: Node) -> Node:
        if isinstance(node, Mapping):
            filled = {key: self.fill(entry.value) for key, entry in node.entries.items()}
            if all(filled[key] is entry.value for key, entry in node.entries.items()):
                return node
            return replace(node, entries={k: Entry(e.key_span, filled[k]) for k, e in node.entries.items()})
        if isinstance(node, Sequence):
            items = tuple(self.fill(item) for item in node.items)
            return node if all(a is b for a, b in zip(items, node.items, strict=True)) else replace(node, items=items)
        if isinstance(node, Scalar) and isinstance(node.value, str) and "${" in node.value:
            return self.text(node, node.value)
        return node

    def text(self, node: Scalar, text: str) -> Node:
        whole = _USE.fullmatch(text)
        if whole and whole[1] is not None:
            value = self.use(whole, node)
            if isinstance(value, Hole):
                return Hole(node.span)
            return replace(value, via=(*value.via, node.span))
        parts: list[str] = []
        sources: list[Span] = []
        end = 0
        for match in _USE.finditer(text):
            parts.append(text[end : match.start()])
            end = match.end()
            if match[1] is None:
                parts.append("${")
                continue
            value = self.use(match, node)
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
            sources += [value.span, *value.parts, *value.via]
        return Scalar("".join([*parts, text[end:]]), node.span, plain=False, parts=tuple(sources))

    def use(self, match: re.Match[str], node: Scalar) -> Node:
        """Return the value of one `${vars.NAME}`, or a Hole after recording a diagnostic."""
        at = self.at(match, node)
        inner = match[1].strip()
        section, dot, name = inner.partition(".")
        if not match[2]:
            self.session.error(
                "GL035", f"'{match[0]}' is never closed", at, "write ${vars.NAME}, or $${ for a plain '${'"
            )
        elif section != "vars" or not dot or not name:
            hint = f"did you mean '${{vars.{inner}}}'?" if inner in self.written else "only ${vars.NAME} is replaced"
            self.session.error("GL035", f"'{match[0]}' is not a variable", at, hint)
        elif name in self.open:
            loop = " -> ".join([*self.open[self.open.index(name) :], name])
            self.session.error("GL037", f"variables form a cycle: {loop}", at)
        elif self.broken:
            pass  # `vars` itself is of a wrong type, which validation reports
        elif name not in self.written:
            known = f"variables: {', '.join(self.written)}" if self.written else "this spec has no `vars`"
            self.session.error(
                "GL034", f"unknown variable '{name}'", at, did_you_mean(name, tuple(self.written), known)
            )
        else:
            return self.variable(name)
        return Hole(at)

    def at(self, match: re.Match[str], node: Scalar) -> Span:
        """Return the position of one use inside its text, or of the whole text where escapes hide the position."""
        start = node.span.text.find(match[0], node.span.column - 1)
        if start < 0:
            return node.span
        return replace(node.span, column=start + 1, end_column=start + 1 + len(match[0]))


def _noun(node: Node) -> str:
    return "mapping" if isinstance(node, Mapping) else "list"


def _written(node: Scalar) -> str:
    if node.value is None:
        return "null"
    if isinstance(node.value, bool):
        return str(node.value).lower()
    return str(node.value)
