"""Base folders of relative paths, which start from the folder of the file that holds them, not of one that extends
it."""

from __future__ import annotations

import os.path
from pathlib import PurePath

from gridloom.diagnostics import Span


def base_of(span: Span | None) -> str:
    """Return the folder for paths written at `span`, as the user typed it; `.` for `--set`, recipes and defaults."""
    if span is None or span.source.startswith(("--set", "sweep ", "library:")):
        return "."
    return str(PurePath(span.source).parent)


def rebased(path: str, written_in: str, seen_from: str) -> str:
    """Return a relative path relative to another folder; unchanged for an absolute path or equal folders."""
    if (
        PurePath(path).is_absolute()
        or path.startswith("~")
        or os.path.normpath(written_in) == os.path.normpath(seen_from)
    ):
        return path
    moved = os.path.relpath(PurePath(written_in) / path, seen_from)
    return moved if moved.startswith((".", "/")) else f"./{moved}"
