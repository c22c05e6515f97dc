"""What the compiler says about a spec: a place, a code, a message and a remedy.

Plain data; `gridloom.compiler.render` makes the text a person sees and `--json` prints the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value was written. Lines and columns count from 1; `end_column` is exclusive."""

    source: str
    """A file path as the user typed it, `--set PATH=VALUE`, `sweep PATH[INDEX]`, or `library:NAME`."""
    line: int
    column: int
    end_column: int
    text: str = ""
    """The source line, so that a diagnostic can be drawn after the file changed or was never a file."""

    def __str__(self) -> str:
        if self.source.startswith(("--set", "sweep ")):
            return self.source
        return f"{self.source}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem. Codes are stable (`GL101`); `gridloom explain CODE` documents each."""

    code: str
    severity: Severity
    message: str
    span: Span | None
    hint: str = ""
    notes: tuple[str, ...] = ()
    """Further lines, such as where each side of a mismatch was written."""
