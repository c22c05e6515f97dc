"""Diagnostics in colour: codes, carets and hints, on a terminal that wants colour."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from gridloom.cli.output import exact

if TYPE_CHECKING:
    from gridloom.diagnostics import Diagnostic

BOLD, RED, YELLOW, CYAN, DIM, END = "\x1b[1m", "\x1b[1;31m", "\x1b[1;33m", "\x1b[36m", "\x1b[2m", "\x1b[0m"
_CODE = re.compile(r"(?:(\S+)  )?(GL\d{3})  (warning: )?")


def print_diagnostics(diagnostics: Sequence[Diagnostic], stream: TextIO | None = None) -> None:
    """Print diagnostics on standard error, in colour where it is a terminal and NO_COLOR is not set."""
    from gridloom.compiler.render import render

    out = sys.stderr if stream is None else stream
    text = render(diagnostics)
    if not out.isatty() or "NO_COLOR" in os.environ:
        print(text, file=out)
        return
    # what acts on a terminal was escaped by `render`, so the colours added here pass unchanged
    print("\n".join(map(coloured, text.split("\n"))), file=exact(out))


def coloured(line: str) -> str:
    """Return a line of `render` with its parts in colour."""
    if found := _CODE.match(line):
        place = f"{BOLD}{found[1]}{END}  " if found[1] else ""
        code = f"{YELLOW if found[3] else RED}{found[2]}{END}"
        return f"{place}{code}  {line[found.end(2) + 2 :]}"
    if re.fullmatch(r" *\| *\^+", line):
        at = line.index("^")
        return f"{DIM}{line[:at]}{END}{RED}{line[at:]}{END}"
    if re.match(r" *\d* \| ", line):
        at = line.index("|") + 1
        return f"{DIM}{line[:at]}{END}{line[at:]}"
    if line.startswith("      hint: "):
        return f"{CYAN}{line}{END}"
    return line
