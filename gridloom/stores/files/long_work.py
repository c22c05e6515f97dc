"""Progress on stderr of work that nobody expects to take long, shown only when it does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHOWN_AFTER_S = 2.0
"""Time after which the first line is shown, s."""
INTERVAL_S = {True: 0.5, False: 10.0}
"""Time between two lines on a terminal, where a line replaces the last, and elsewhere, s."""


@contextmanager
def shown_when_long(progress: Callable[[int, int], None] | None, label: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function of bytes done and in total: `progress`, else one that writes lines to stderr."""
    if progress is not None:
        yield progress
        return
    lines = ProgressLines(label)
    try:
        yield lines
    finally:
        lines.end()


class ProgressLines:
    """Lines `LABEL: 45 of 330 MB, 12 s left`, from `SHOWN_AFTER_S` on."""

    def __init__(self, label: str) -> None:
        self.label = label
        self._stream = sys.stderr
        self._is_terminal = self._stream is not None and self._stream.isatty()
        self._began = time.monotonic()
        self._next = self._began + SHOWN_AFTER_S
        self._shown = 0

    def __call__(self, done: int, total: int) -> None:
        """Show a line, if it is time for one."""
        now = time.monotonic()
        if now < self._next or self._stream is None or done >= total:
            return
        self._next = now + INTERVAL_S[self._is_terminal]
        left = f", {(now - self._began) * (total - done) / done:.0f} s left" if done else ""
        unit, size = ("MB", 1e6) if total >= 1e6 else ("kB", 1e3)
        shown = f"{self.label}: {done / size:,.0f} of {total / size:,.0f} {unit}{left}"
        self._write(shown, "" if self._is_terminal else "\n")

    def end(self) -> None:
        """Clear the line on a terminal."""
        if self._shown and self._is_terminal:
            self._write("", "\r")

    def _write(self, text: str, end: str) -> None:
        start = "\r" if self._is_terminal else ""
        padded = text.ljust(self._shown) if self._is_terminal else text
        try:
            self._stream.write(f"{start}{padded}{end}")
            self._stream.flush()
        except OSError:  # stderr is closed or full: the work goes on
            self._next = float("inf")
        self._shown = len(text)
