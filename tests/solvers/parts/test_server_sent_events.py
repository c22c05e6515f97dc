"""Data of the events of a stream, by the WHATWG's rules, however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gridloom.solvers.parts.server_sent_events import MAX_EVENT_BYTES, OverlongEvent, event_data


def data_of(body: bytes, size: int = 100_000) -> list[str]:
    return list(event_data(body[start : start + size] for start in range(0, len(body), size)))


@pytest.mark.parametrize("size", [1, 2, 3, 100_000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_chunks_may_cut_lines_their_ends_and_characters(line_end: str, size: int) -> None:
    lines = [
        "data: é日🙂\u2028\u0085\x0c",
        "",
        ": a comment",
        "",
        "id: 1",
        "data:one",
        "data:  two",
        "data",
        "",
        "",
        "data: 3",
        "",
    ]
    body = "".join(line + line_end for line in lines).encode()
    assert data_of(body, size) == ["é日🙂\u2028\u0085\x0c", "one\n two\n", "3"]


def test_a_byte_order_mark_is_left_out_at_the_start_alone() -> None:
    mark = b"\xef\xbb\xbf"
    assert data_of(mark + b"data: 1\n\n" + mark + b"data: 2\n\ndata: 3\n\n", 2) == ["1", "3"]


@pytest.mark.parametrize("rest", [b"data: 2", b"data: 2\n", b"data: 2\r"])
def test_an_event_that_no_blank_line_ends_is_left_out(rest: bytes) -> None:
    assert data_of(b"data: 1\n\n" + rest) == ["1"]


def test_empty_chunks_and_bytes_that_are_no_utf_8_are_taken() -> None:
    assert list(event_data([b"data: 1\r", b"", b"\n\r\n", b"data: \xff\n\n"])) == ["1", "\ufffd"]


def test_what_grows_without_end_is_given_up_with_its_start() -> None:
    def endless(chunk: bytes) -> Iterator[bytes]:
        for _ in range(2 * MAX_EVENT_BYTES // len(chunk)):
            yield chunk
        raise AssertionError("the reader goes on")

    with pytest.raises(OverlongEvent) as line:
        list(event_data(endless(b"x" * 65_536)))
    assert line.value.start.startswith(b"xxx")
    with pytest.raises(OverlongEvent) as lines:
        list(event_data(endless(b"data: 1\n" * 1000)))
    assert lines.value.start == b"1"
