"""Format versions of the data files, written into each file and checked when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gridloom.errors import DataError
from gridloom.runtime.data.files.json_files import dumps_with_grids

FORMAT_VERSION = 1


def check_format(path: Path, meta: Any) -> None:
    """Raise DataError unless `meta` has the format version that this program reads."""
    found = meta.get("format_version") if isinstance(meta, dict) else None
    if found != FORMAT_VERSION:
        remedy = "upgrade gridloom" if isinstance(found, int) and found > FORMAT_VERSION else "remove it and run again"
        raise DataError(f"{path}: data format {found!r}, this program reads {FORMAT_VERSION}", remedy)


def write_json(path: Path, value: Any) -> None:
    """Write compact JSON with sorted keys and one newline; arrays are grids. Raises DataError when writing fails."""
    try:
        path.write_bytes(dumps_with_grids(value) + b"\n")
    except OSError as problem:
        raise DataError(f"{path}: cannot be written: {problem.strerror}", "free space or check the rights") from None
