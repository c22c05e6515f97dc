"""Server-sent events: the data of each event of a `text/event-stream`, from chunks of bytes with any boundaries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

MAX_EVENT_BYTES = 1 << 20
"""Limit of bytes of a line and of an event."""
LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class OverlongEvent(Exception):
    """Error: a line, or the data of one event, is longer than MAX_EVENT_BYTES."""

    def __init__(self, start: bytes) -> None:
        """Store the start of the event.

        Args:
            start: first line of the event's data, or the line without an end.
        """
        super().__init__(f"an event of more than {MAX_EVENT_BYTES} bytes")
        self.start = start


def event_data(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of every event of a `text/event-stream`.

    As in the WHATWG HTML standard, 9.2.6 "Interpreting an event stream": lines of `data` are joined by LF, a blank line
    ends an event; comments, other fields and an event without a blank line at its end are ignored.

    Raises:
        OverlongEvent: the data of one event are longer than MAX_EVENT_BYTES.
    """
    data: list[bytes] = []
    size = 0
    for line in _lines(chunks):
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
            size += len(line)
            if size > MAX_EVENT_BYTES:
                raise OverlongEvent(data[0])
        elif not line and data:
            yield b"\n".join(data).decode("utf-8", errors="replace")
            data, size = [], 0


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of an event stream without their ends (CRLF, LF or CR), for any chunk boundaries.

    `httpx.Response.iter_lines` also splits at U+0085, U+2028 and others, which JSON strings may hold. A line end is
    never part of a UTF-8 character, so lines are split as bytes. A last line without an end and a byte order mark are
    left out.

    Raises:
        OverlongEvent: a line is longer than MAX_EVENT_BYTES.
    """
    held = bytearray()
    after_return = False
    first = True
    for chunk in chunks:
        if not chunk:
            continue
        if after_return:  # the LF of a CRLF split between two chunks
            chunk = chunk.removeprefix(b"\n")
        after_return = chunk.endswith(b"\r")
        *ended, rest = LINE_END.split(chunk)
        for part in ended:
            held += part
            yield bytes(held).removeprefix(BYTE_ORDER_MARK) if first else bytes(held)
            held.clear()
            first = False
        held += rest
        if len(held) > MAX_EVENT_BYTES:
            raise OverlongEvent(bytes(held))
