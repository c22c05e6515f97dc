"""Standard output and error of the command line: what acts on a terminal is escaped, and lost output is known.

Everything that a command prints passes `EscapingStream`, whatever printed it. `exact` gives the stream below, for data
in a format with rules of its own (JSON, CSV) and for escape sequences of the program itself.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from gridloom.wording import printable

PIPE_CLOSED = 128 + 13
"""Exit status of a command whose reader went away, as of a process that SIGPIPE ended."""
_BAR = re.compile(r"\r|[\n\r]*(\x1b\[A)+")
"""Begin of what bars of libraries write to standard error: back to the begin of a line, or up some lines."""


class OutputLost(Exception):
    """Raised when a stream cannot be written, or was closed before the program began."""

    def __init__(self, stream: str, error: OSError) -> None:
        super().__init__(f"cannot write to {stream}: {error.strerror or error}")
        self.reader_left = error.errno == errno.EPIPE


class ExactStream:
    """Text stream that passes text on unchanged, up to the first failure.

    Args:
        stream: the stream below; None for one that was closed before the program began.
        name: name of the stream in messages.
        drops: whether text that cannot be written is dropped in silence.
    """

    def __init__(self, stream: TextIO | None, name: str, drops: bool = False) -> None:
        self._stream, self._name, self.drops = stream, name, drops
        self.lost: OutputLost | None = None

    def write(self, text: str) -> int:
        """Write text. Raises OutputLost unless lost text is dropped."""
        if self.lost is None and text:
            try:
                if self._stream is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts. Raises as `write`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is buffered. Raises OutputLost unless lost text is dropped."""
        if self.lost is None and self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def _lose(self, error: OSError) -> None:
        self.lost = OutputLost(self._name, error)
        if self._stream is not None:
            # what is buffered would fail again when the interpreter ends
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
        if not self.drops:
            raise self.lost from error

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.__stderr__ if self._stream is None else self._stream, name)


class EscapingStream:
    """Text stream over an exact one, which escapes what acts on a terminal; newlines and tabs are kept."""

    def __init__(self, below: ExactStream, bars: bool = False) -> None:
        self.exact = below
        self._bars = bars

    def write(self, text: str) -> int:
        """Write text escaped. Raises as the stream below."""
        if self._bars and (begin := _BAR.match(text)):
            self.exact.write(begin[0])
            self.exact.write(printable(text[begin.end() :], lines=True))
        else:
            self.exact.write(printable(text, lines=True))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts escaped. Raises as `write`."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exact, name)


def exact(stream: TextIO | None = None) -> TextIO:
    """Return the stream that takes text unchanged: the one below standard output, or below `stream`."""
    found = sys.stdout if stream is None else stream
    return cast(TextIO, getattr(found, "exact", found))


@contextmanager
def optional_output() -> Iterator[None]:
    """Go on without standard output when it cannot be written any more: for a block whose work counts, as a run's."""
    stream = exact()
    if not isinstance(stream, ExactStream):
        yield
        return
    before, stream.drops = stream.drops, True
    try:
        yield
    finally:
        with suppress(OutputLost):
            stream.flush()
        stream.drops = before


@contextmanager
def terminal_output() -> Iterator[None]:
    """Escape what the block prints. Where output is lost, the process ends: with 141 when its reader left, else with 1
    and one line.

    Where the loss was dropped (`optional_output`) the exit status stays what it is.
    """
    _occupy_closed()
    before = sys.stdout, sys.stderr
    for stream in before:
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    out, err = ExactStream(before[0], "standard output"), ExactStream(before[1], "standard error", drops=True)
    sys.stdout, sys.stderr = cast(TextIO, EscapingStream(out)), cast(TextIO, EscapingStream(err, bars=True))
    try:
        try:
            yield
        finally:
            out.flush()
    except OutputLost as lost:
        sys.exit(PIPE_CLOSED if lost.reader_left else 1)
    finally:
        if out.lost is not None and not out.lost.reader_left:
            print(out.lost, file=sys.stderr)
        err.flush()
        sys.stdout, sys.stderr = before


def _occupy_closed() -> None:
    """Open the null device in place of closed standard streams, since the next file opened would become one of them."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
