"""YAML text -> tree, by YAML 1.2's core schema, with a position for every key and value and bounds on size and depth.

The tree is built from parser events, not by a YAML constructor: a spec cannot name a Python type, aliases are counted
before they are expanded, and depth is checked before descending.
"""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import yaml

from gridloom import user_files
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.tree import Entry, Hole, Mapping, Node, Scalar, Sequence, text_size
from gridloom.diagnostics import Span

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 100_000

_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_WORDS: dict[str, bool | float | None] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
    ".nan": float("nan"),
    ".NaN": float("nan"),
    ".NAN": float("nan"),
}
_UNDECODED = range(0xDC80, 0xDD00)
"""Code points that stand for bytes of the command line which are not UTF-8 (PEP 383)."""
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def resolve_scalar(text: str) -> str | int | float | bool | None:
    """Return the value of unquoted text by YAML 1.2's core schema: `no` and `on` are strings, 1e-4 is a number."""
    if text in _WORDS:
        return _WORDS[text]
    if not (text[0].isdigit() or text[0] in "+-."):
        return text
    if _INT.fullmatch(text) and len(text) <= 300:
        return int(text)
    if _OCTAL.fullmatch(text) and len(text) <= 300:
        return int(text[2:], 8)
    if _HEX.fullmatch(text) and len(text) <= 300:
        return int(text[2:], 16)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return float(match[1] + "inf")
    return text


def read_file(path: Path, shown: str, session: Session) -> str:
    """Read a spec file as text. Records GL001-GL004 and raises Stop where the file cannot be read."""
    at = Span(shown, 1, 1, 1)
    try:
        raw = user_files.read_bytes(path, MAX_BYTES)
    except FileNotFoundError:
        near = specs_in(path.parent)
        hint = f"specs in that folder: {', '.join(near[:8])}" if near else ""
        session.error("GL001", f"there is no file '{shown}'", at, hint)
        raise Stop from None
    except OSError as error:
        if error.errno == errno.EFBIG:
            too_large(shown, session)
        else:
            session.error("GL002", f"cannot read '{shown}': {error.strerror or error}", at)
        raise Stop from None
    return decode(raw, shown, session)


def specs_in(folder: Path) -> list[str]:
    """Return the names of the specs in a folder, sorted; none for a folder that cannot be listed."""
    try:
        return sorted(p.name for p in folder.glob("*.y*ml")) if user_files.is_folder(folder) else []
    except OSError:
        return []


def too_large(shown: str, session: Session) -> None:
    """Record GL004."""
    session.error("GL004", "the spec is larger than 1 MiB", Span(shown, 1, 1, 1), "a spec holds settings, not data")


def decode(raw: bytes, shown: str, session: Session) -> str:
    """Decode a spec's bytes. Records GL003 (not UTF-8) or GL004 (too large) and raises Stop."""
    if len(raw) > MAX_BYTES:
        too_large(shown, session)
        raise Stop
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        lines = _LINE_BREAK.split(before)
        column = len(lines[-1]) + 1
        at = Span(shown, len(lines), column, column + 1, lines[-1] + "?")
        session.error("GL003", f"byte 0x{raw[error.start]:02x} is not UTF-8", at, "save the file as UTF-8")
        raise Stop from None
    return text.removeprefix("\ufeff")


def load(text: str, source: str, session: Session) -> Mapping:
    """Parse a whole spec. Records GL005-GL018 and raises Stop where there is no tree."""
    root = parse_value(text, source, session)
    if isinstance(root, Mapping):
        return root
    at = root.span if root else Span(source, 1, 1, 1, _LINE_BREAK.split(text)[0])
    if root is None or (isinstance(root, Scalar) and root.value is None):
        session.error("GL005", "the spec is empty", at, "`gridloom init` writes one to start from")
    else:
        kind = "a list" if isinstance(root, Sequence) else "a single value"
        session.error("GL016", f"a spec is a mapping of keys, but this is {kind}", at, "start with 'gridloom: 1'")
    raise Stop


def parse_value(text: str, source: str, session: Session, line_text: str | None = None, shift: int = 0) -> Node | None:
    """Parse one YAML document; `line_text` and `shift` position a fragment in a longer line, such as `--set a=b`.

    Returns None for a document without content. Raises Stop where the text is not YAML.
    """
    builder = _Builder(text, source, session, line_text, shift)
    try:
        return builder.document()
    except yaml.reader.ReaderError as error:
        character = error.character
        code = character if isinstance(character, int) else ord(character[:1] or "\0")
        builder.unreadable(error.position, code)
    except UnicodeEncodeError as error:  # libyaml's wrapper encodes the text before it reads
        builder.unreadable(error.start, ord(text[error.start]))
    except yaml.MarkedYAMLError as error:
        builder.malformed(error)
    raise Stop


class _Builder:
    """Builder of the tree of one text from its parser events."""

    def __init__(self, text: str, source: str, session: Session, line_text: str | None, shift: int) -> None:
        self.text = text
        self.source = source
        self.session = session
        self.lines = [line_text] if line_text is not None else _LINE_BREAK.split(text)
        self.shift = shift
        self.anchors: dict[str, Node | None] = {}
        self.parser: Any = None

    def span(self, start: Any, end: Any = None) -> Span:
        if start.line >= len(self.lines):  # the parser names the end of a text as the start of the next line
            line = self.lines[-1]
            return Span(self.source, len(self.lines), len(line) + 1, len(line) + 2, line)
        line = self.lines[start.line]
        column = start.column + self.shift + 1
        if end is None:
            end_column = column + 1
        elif end.line == start.line:
            end_column = max(end.column + self.shift + 1, column)
        else:
            end_column = max(len(line.rstrip()) + 1, column + 1)
        return Span(self.source, start.line + 1, column, end_column, line)

    def document(self) -> Node | None:
        self.parser = _LOADER(self.text)
        self.parser.get_event()  # stream start
        if self.parser.check_event(yaml.StreamEndEvent):
            return None
        self.parser.get_event()  # document start
        node = self.node(self.parser.get_event(), 1)
        self.parser.get_event()  # document end
        if not self.parser.check_event(yaml.StreamEndEvent):
            event = self.parser.get_event()
            self.session.error(
                "GL006",
                "a second YAML document starts here",
                self.span(event.start_mark, event.end_mark),
                "one file is one spec: split it, or remove the '---'",
            )
        return node

    def node(self, event: Any, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        at = self.span(event.start_mark, event.end_mark)
        if event.tag is not None:
            self.session.error(
                "GL014",
                f"the tag '{_short_tag(event.tag)}' is not part of the language",
                at,
                "write the value alone; quotes make it a string",
            )
        if depth > MAX_DEPTH:
            self.session.error("GL010", f"nested deeper than {MAX_DEPTH} levels", at)
            raise Stop
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            plain = bool(event.implicit[0])
            value = resolve_scalar(event.value) if plain else event.value
            written = None if isinstance(value, str) else event.value
            node = Scalar(value, at, plain, size=1 + text_size(event.value), written=written)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self.sequence(at, depth)
        else:
            node = self.mapping(at, depth)
        if event.tag is not None:
            node = Hole(at, size=node.size)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def alias(self, event: Any) -> Node:
        at = self.span(event.start_mark, event.end_mark)
        if event.anchor not in self.anchors:
            known = ", ".join(f"&{name}" for name in self.anchors) or "there are no anchors above"
            self.session.error("GL013", f"alias '*{event.anchor}' names no anchor", at, f"known here: {known}")
            raise Stop
        node = self.anchors[event.anchor]
        if node is None:
            self.session.error("GL012", f"alias '*{event.anchor}' stands inside its own anchor", at)
            raise Stop
        return node

    def sequence(self, at: Span, depth: int) -> Sequence:
        items: list[Node] = []
        size = 1
        while not self.parser.check_event(yaml.SequenceEndEvent):
            event = self.parser.get_event()
            item = self.node(event, depth + 1)
            size = self.grown(size, item, event)
            items.append(item)
        self.parser.get_event()
        return Sequence(tuple(items), at, size=size)

    def mapping(self, at: Span, depth: int) -> Mapping:
        entries: dict[str, Entry] = {}
        size = 1
        while not self.parser.check_event(yaml.MappingEndEvent):
            key_event = self.parser.get_event()
            key = self.key(key_event, depth)
            key_span = self.span(key_event.start_mark, key_event.end_mark)
            event = self.parser.get_event()
            value = self.node(event, depth + 1)
            if isinstance(value, Scalar) and value.value is None and value.span.column >= value.span.end_column:
                value = Scalar(None, key_span)  # an empty value has the position of its key
            size = self.grown(size + text_size(key or ""), value, event)
            if key is None:
                continue
            if key == "<<":
                self.session.error(
                    "GL017",
                    "merge keys '<<' are not part of YAML 1.2",
                    key_span,
                    "use `extends`, or write the keys out",
                )
            elif key in entries:
                first = entries[key].key_span
                self.session.error(
                    "GL009", f"key '{key}' is given twice", key_span, f"remove one; the first is at {first}"
                )
            else:
                entries[key] = Entry(key_span, value)
        self.parser.get_event()
        return Mapping(entries, at, size=size)

    def key(self, event: Any, depth: int) -> str | None:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        at = self.span(event.start_mark, event.end_mark)
        self.session.error("GL015", "a key must be a plain name", at)
        self.node(event, depth + 1)
        return None

    def grown(self, size: int, child: Node, event: Any) -> int:
        size += child.size
        if size > MAX_VALUES:
            at = self.span(event.start_mark, event.end_mark)
            self.session.error(
                "GL011",
                f"expands to more than {MAX_VALUES:,} values",
                at,
                "aliases that repeat aliases grow without bound",
            )
            raise Stop
        return size

    def unreadable(self, position: int, code: int) -> None:
        """Record a character that YAML does not allow (GL018), or a byte of an argument that is not UTF-8 (GL003)."""
        before = self.text[:position]
        lines = _LINE_BREAK.split(before)
        column = len(lines[-1]) + 1 + self.shift
        line = self.lines[min(len(lines), len(self.lines)) - 1]  # an override is always one line
        at = Span(self.source, len(lines), column, column + 1, line)
        if code in _UNDECODED:
            self.session.error("GL003", f"byte 0x{code - 0xDC00:02x} is not UTF-8", at, "type the text in UTF-8")
        else:
            self.session.error("GL018", f"character U+{code:04X} is not allowed in YAML", at)

    def malformed(self, error: Any) -> None:
        """Record a syntax error at its position, with the start of the broken construct."""
        mark = error.problem_mark or error.context_mark
        at = self.span(mark)
        rest = at.text[at.column - 1 - self.shift :] if self.shift == 0 else ""
        if rest.startswith("\t") or (not rest.strip() and "\t" in at.text[: at.column]):
            self.session.error("GL008", "a tab indents this line", at, "YAML indents with spaces")
            return
        notes: tuple[str, ...] = ()
        if error.context_mark and (error.context_mark.line, error.context_mark.column) != (mark.line, mark.column):
            notes = (f"{error.context} that starts at {self.span(error.context_mark)}",)
        hint = _REMEDIES.get(str(error.problem), "")
        if at.text[: at.column].rstrip("{").endswith("$"):
            hint = 'quote variables: "${vars.NAME}"'
        self.session.error("GL007", f"not YAML: {error.problem}", at, hint, notes)


_REMEDIES = {
    "mapping values are not allowed in this context": "quote a text that holds ': ', or check the indentation",
    "did not find expected key": "check the indentation of this line against the ones above",
    "did not find expected ',' or ']'": "close the list with ']', and put ',' between its items",
    "did not find expected ',' or '}'": "close the mapping with '}', and put ',' between its keys",
    "found unexpected end of stream": "a quote is never closed",
    "could not find expected ':'": "a key needs ': ' after it",
    "found character that cannot start any token": "quote the text: '@', '`' and '%' cannot start one",
}


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!")
