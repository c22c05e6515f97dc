"""Diagnostics as plain text (place, code, message, source line, caret, hint) and as JSON data."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

from gridloom.compiler.session import MAX_PROBLEMS
from gridloom.diagnostics import Diagnostic, Span
from gridloom.wording import printable

MAX_LINE = 140
MAX_JSON_LINE = 4096
"""Longest source line in the JSON of a diagnostic, in characters; a file on one line would be repeated in each."""
_INDENT = " " * 6


def render(diagnostics: Sequence[Diagnostic]) -> str:
    """Return diagnostics as text, with their number and the command that explains more."""
    blocks = [_block(diagnostic) for diagnostic in diagnostics]
    return "\n".join([*blocks, _total(diagnostics)]) + "\n" if diagnostics else ""


def to_json(diagnostics: Sequence[Diagnostic]) -> str:
    """Return diagnostics as JSON: `format_version` and one object each, with the fields of Diagnostic and Span."""
    return json.dumps(to_data(diagnostics), indent=1)


def to_data(diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """Return diagnostics as plain data, versioned."""
    return {"format_version": 1, "diagnostics": [_as_dict(diagnostic) for diagnostic in diagnostics]}


def _as_dict(diagnostic: Diagnostic) -> dict[str, Any]:
    at = diagnostic.span
    span: dict[str, Any] | None = None
    if at is not None:
        span = {"source": at.source, "line": at.line, "column": at.column, "end_column": at.end_column}
        span["text"] = at.text[:MAX_JSON_LINE]
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "span": span,
        "hint": diagnostic.hint,
        "notes": list(diagnostic.notes),
    }


def _block(diagnostic: Diagnostic) -> str:
    at = diagnostic.span
    mark = "warning: " if diagnostic.severity == "warning" else ""
    head = f"{at}  " if at else ""
    lines = [printable(f"{head}{diagnostic.code}  {mark}{diagnostic.message}")]
    if at is not None and at.text.strip():
        lines += _frame(at)
    if diagnostic.hint:
        lines.append(printable(f"{_INDENT}hint: {diagnostic.hint}"))
    lines += [printable(f"{_INDENT}{note}") for note in diagnostic.notes]
    return "\n".join(lines)


def _frame(at: Span) -> list[str]:
    """Draw the source line with carets below the span; a long line is cut to a window."""
    text = at.text
    start, end = at.column - 1, max(at.end_column - 1, at.column)
    if len(text) > MAX_LINE:
        left = max(0, start - MAX_LINE // 2)
        text = ("..." if left else "") + text[left : left + MAX_LINE] + ("..." if left + MAX_LINE < len(text) else "")
        shift = left - (3 if left else 0)
        start, end = start - shift, min(end - shift, MAX_LINE + 3)
    text = "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text)
    carets = "^" * max(_width(text[start:end]), 1)
    number = "" if at.source.startswith(("--set", "sweep ")) else str(at.line)
    return [f"{number:>5} | {text}".rstrip(), f"{_INDENT}| {' ' * _width(text[:start])}{carets}"]


def _width(text: str) -> int:
    """Return the columns that text takes on a terminal."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _total(diagnostics: Sequence[Diagnostic]) -> str:
    errors = [d for d in diagnostics if d.severity == "error"]
    warnings = len(diagnostics) - len(errors)
    parts = []
    if errors:
        parts.append(f"{len(errors)} problem{'s' if len(errors) > 1 else ''}")
    if warnings:
        parts.append(f"{warnings} warning{'s' if warnings > 1 else ''}")
    # a misspelt name needs no explanation, so the first deeper problem is named
    worth = next((d.code for d in errors if d.code >= "GL3"), (errors or diagnostics)[0].code)
    if len(diagnostics) >= MAX_PROBLEMS:
        parts.append("at which the compiler stopped: there may be more")
    return f"{', '.join(parts)}. `gridloom explain {worth}` explains more."
