"""gridloom: declarative recursive-reasoning research on ARC-AGI and its sister puzzles."""

from __future__ import annotations

from gridloom.version import __version__

__all__ = ["__version__"]
