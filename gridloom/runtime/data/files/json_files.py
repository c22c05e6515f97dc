"""JSON files as data sources; errors name file, line and column."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from gridloom import user_files
from gridloom.errors import DataError
from gridloom.runtime.data.files.grids import PackedGrid

MAX_BYTES = 1 << 30
"""Largest accepted file size; the largest ARC collections have a few hundred megabytes."""


def load_json(path: Path) -> Any:
    """Return the value in `path`. Raises DataError for unreadable or malformed files and repeated keys."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice = next(name for name, count in counts.items() if count > 1)
            raise DataError(f"{path}: {twice!r:.80} occurs twice in one object", "remove or rename one of the two")
        return found

    raw = read_bytes(path)
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=unique)
    except json.JSONDecodeError as problem:
        raise DataError(
            f"{path}:{problem.lineno}:{problem.colno}: not valid JSON: {problem.msg}",
            "the file is damaged or incomplete; fetch or write it again",
        ) from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: not UTF-8 text (byte {problem.start})", "save the file as UTF-8 JSON") from None
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{path}: not usable JSON: {problem}", "a task file holds lists of small grids") from None


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file of at most MAX_BYTES. Raises DataError."""
    try:
        return user_files.read_bytes(path, MAX_BYTES)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}", "check the path and its rights") from None


def dumps_with_grids(value: Any) -> bytes:
    """Return compact JSON with sorted keys of a value that holds arrays as grids, equal to json.dumps of nested lists.

    Faster than json.dumps since no lists are made. The value must hold no NaN.
    """
    grids: list[bytes] = []

    def keep(grid: Any) -> float:
        rows, columns = grid.shape
        table = np.full((rows, 2 * columns + 2), ord(","), dtype=np.uint8)
        table[:, 0], table[:, -2] = ord("["), ord("]")
        table[:, 1 : 2 * columns : 2] = grid + np.uint8(ord("0"))
        grids.append(table.tobytes()[:-1])
        return float("nan")

    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=keep).encode("ascii")
    parts = text.split(b"NaN")
    return b"".join(part + b"[" + grid + b"]" for part, grid in zip(parts, grids, strict=False)) + parts[-1]


def loads_with_packed_grids(raw: bytes) -> Any:
    """Parse compact JSON, each grid as a PackedGrid: ten times faster than lists of every cell.

    Returns None for text with spaces in its grids or with brackets in strings, which needs `json.loads`.
    """
    if b"NaN" in raw:
        return None
    # a space separates the bracket of a list of grids from the brackets of its first and last grid
    pieces = raw.replace(b"[[[", b"[ [[").replace(b"]]]", b"]] ]").split(b"[[")
    skeleton, grids = [pieces[0]], []
    for piece in pieces[1:]:
        text, end, rest = piece.partition(b"]]")
        if not end:
            return None
        grids.append(PackedGrid(text))
        skeleton += (b"NaN", rest)
    # NaN is not JSON but a hook of the parser, called once per grid in text order
    waiting = iter(grids)
    try:
        value = json.loads(b"".join(skeleton), parse_constant=lambda _: next(waiting))
    except (ValueError, StopIteration, RecursionError):
        return None
    return value if next(waiting, None) is None else None
