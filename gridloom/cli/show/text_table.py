"""Table of text cells that is laid out for the width of a terminal: folded, without its least columns, or as records.

Names and numbers are never broken. Columns of prose fold between words. Where that is not enough the columns of `drop`
are left out, the last one first, and a line names them; then prose is folded narrower still. What does not fit even so
becomes one block a row.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

GAP = 2
PROSE_WIDTH = 28
"""Smallest width that a column of prose is folded to while other columns can be dropped."""
NARROW_PROSE = 16
"""Smallest width of a column of prose where no other column can be dropped."""


def text_width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def terminal_width() -> int | None:
    """Return the columns of the terminal on standard output; None for a pipe or file, where lines have no end."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text cells with column names."""

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    """Whether each column is aligned to the right."""
    cells: tuple[tuple[str, ...], ...]
    prose: frozenset[str] = frozenset()
    """Columns that may be folded between words."""
    drop: tuple[str, ...] = ()
    """Columns that may be left out, the last one first."""

    def lines(self, width: int | None = None) -> list[str]:
        """Return header and rows for a width in columns; None: aligned, nothing cut, folded or left out."""
        if width is None or self._least(self._natural()) <= width:
            return self._aligned(self._natural())
        table, left = self, []
        for name in (None, *reversed(self.drop)):
            if name is not None and name in table.names:
                table = table._without(name)
                left.append(name)
            if table._least(table._folded()) <= width:
                return [*table._aligned(table._widths(width)), *_left_out(left, width)]
        if table.prose and table._least(table._folded(NARROW_PROSE)) <= width:
            return [*table._aligned(table._widths(width, NARROW_PROSE)), *_left_out(left, width)]
        return self._records(width)

    def _natural(self) -> list[int]:
        rows = [self.names, *self.cells]
        return [max(text_width(row[index]) for row in rows) for index in range(len(self.names))]

    def _least(self, widths: Sequence[int]) -> int:
        return sum(widths) + GAP * (len(widths) - 1)

    def _folded(self, prose_width: int = PROSE_WIDTH) -> list[int]:
        """Return the smallest widths: names and numbers whole, prose folded."""
        found = []
        for index, (name, width) in enumerate(zip(self.names, self._natural(), strict=True)):
            word = max((text_width(w) for row in self.cells for w in row[index].split()), default=0)
            found.append(min(width, max(prose_width, word, text_width(name))) if name in self.prose else width)
        return found

    def _widths(self, width: int, prose_width: int = PROSE_WIDTH) -> list[int]:
        """Return widths of which the columns of prose share what is left over."""
        widths, natural = self._folded(prose_width), self._natural()
        spare = width - self._least(widths)
        for index, wanted in enumerate(natural):
            more = min(spare, wanted - widths[index])
            widths[index] += more
            spare -= more
        return widths

    def _without(self, name: str) -> TextTable:
        at = self.names.index(name)
        kept = [index for index in range(len(self.names)) if index != at]
        return replace(
            self,
            names=tuple(self.names[i] for i in kept),
            numeric=tuple(self.numeric[i] for i in kept),
            cells=tuple(tuple(row[i] for i in kept) for row in self.cells),
        )

    def _aligned(self, widths: Sequence[int]) -> list[str]:
        lines = []
        for row in (self.names, *self.cells):
            folded = [_fold(text, width) for text, width in zip(row, widths, strict=True)]
            for number in range(max(map(len, folded), default=1)):
                parts = [lines_[number] if number < len(lines_) else "" for lines_ in folded]
                lines.append((" " * GAP).join(self._padded(parts, widths)).rstrip())
        return lines

    def _padded(self, row: Sequence[str], widths: Sequence[int]) -> list[str]:
        spaces = [" " * (width - text_width(text)) for text, width in zip(row, widths, strict=True)]
        return [f"{s}{t}" if right else f"{t}{s}" for t, s, right in zip(row, spaces, self.numeric, strict=True)]

    def _records(self, width: int) -> list[str]:
        """Return one block a row, a line for each value."""
        margin = max(map(text_width, self.names)) + GAP
        lines = []
        for number, row in enumerate(self.cells, 1):
            lines.append(f"-- row {number} ".ljust(min(width, 40), "-"))
            for name, text in zip(self.names, row, strict=True):
                head = name + " " * (margin - text_width(name))
                first, *more = _fold(text, max(width - margin, 20), anywhere=True) or [""]
                lines += [f"{head}{first}".rstrip(), *(f"{'':{margin}}{line}" for line in more)]
        return lines or ["  ".join(self.names)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines for rich, laid out for the width of a terminal."""
        from rich.text import Text

        lines = self.lines(options.max_width if console.is_terminal else None)
        for number, line in enumerate(lines):
            yield Text(line, style="bold" if number == 0 else "", no_wrap=True, overflow="ignore")


def _fold(text: str, width: int, anywhere: bool = False) -> list[str]:
    if text_width(text) <= width:
        return [text]
    return textwrap.wrap(text, width, break_long_words=anywhere, break_on_hyphens=False)


def _left_out(names: Sequence[str], width: int) -> list[str]:
    if not names:
        return []
    text = f"left out for this width: {', '.join(reversed(names))}; --json has all"
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def folded(text: str) -> str:
    """Return lines of prose folded between words for the terminal on standard output; for a pipe as they are."""
    width = terminal_width()
    if width is None:
        return text
    return "\n".join(part for line in text.splitlines() for part in _fold(line, width) or [""])


def print_table(table: TextTable) -> None:
    """Print a table: for a terminal laid out for its width, else with whole lines."""
    from gridloom.cli.output import exact

    lines = table.lines(terminal_width())
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    print("\n".join(lines), file=exact())
