"""Diagnostics of a spec: position, code, message and remedy, as plain data.

`gridloom.compiler.render` writes diagnostics as text for a person and as the data of `--json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Span:
    """Position of a written value. Lines and columns count from 1; `end_column` is exclusive."""

    source: str
    """File path as the user typed it, `--set PATH=VALUE`, `sweep PATH[INDEX]`, or `library:NAME`."""
    line: int
    column: int
    end_column: int
    text: str = ""
    """Source line, so that a diagnostic can be drawn after the file has changed, or without a file."""

    def __str__(self) -> str:
        if self.source.startswith(("--set", "sweep ")):
            return self.source
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem of a spec. Codes such as `GL101` are stable; `gridloom explain CODE` documents each."""

    code: str
    severity: Severity
    message: str
    span: Span | None
    hint: str = ""
    notes: tuple[str, ...] = ()
    """Further lines, such as the position of each side of a mismatch."""
