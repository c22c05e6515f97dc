"""Manifest of files that a test wrote in the place of a published artifact."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def manifest_of(folder: Path) -> dict[str, Any]:
    """Return a manifest with size and hash of every file in a folder."""
    return {
        "files": {
            path.relative_to(folder).as_posix(): {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "bytes": path.stat().st_size,
            }
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    }
