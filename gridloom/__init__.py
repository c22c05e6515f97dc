"""gridloom: declarative recursive-reasoning research on ARC-AGI and its sister puzzles."""

__version__ = "0.1.0"
__all__ = ["__version__"]
