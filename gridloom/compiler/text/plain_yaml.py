"""Plain data of a YAML file of another program, read by the loader of specs: no tags, no constructors, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gridloom import user_files
from gridloom.compiler.facts import StaticFacts
from gridloom.compiler.session import Session, Stop
from gridloom.compiler.text.load import MAX_BYTES, parse_value
from gridloom.compiler.text.tree import to_plain
from gridloom.errors import GridloomError


def read_yaml(path: Path) -> Any:
    """Return the value in a YAML file as dicts, lists and scalars of YAML 1.2. Raises OSError, or GridloomError.

    PyYAML's own loader raises ValueError for a date that is none, and expands aliases without a bound.
    """
    session = Session(StaticFacts())
    try:
        node = parse_value(user_files.read_text(path, MAX_BYTES), str(path), session)
    except Stop:
        node = None
    if session.failed:
        first = session.diagnostics[0]
        raise GridloomError(f"{first.span}: {first.message}", first.hint)
    return None if node is None else to_plain(node)
