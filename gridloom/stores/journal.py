"""The journal: records of a process, appended to its own file. Journals are authoritative; the ledger is an index.

A journal is a text file of lines `CRC32 JSON\\n`, where CRC32 is eight hex digits over the JSON bytes. The first line
is a header; each further line is one append: `{"s": sequence, "r": [{"t": table, "r": {column: value}}, ...]}`. A line
is written by one os.write, so a killed process leaves whole lines and at most one torn tail without a newline. Bytes
are written as `{"$b64": text}`; columns that are None are left out.

The writer holds a flock on its file for as long as it lives: whoever gets that lock knows that the writer is dead.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import orjson

from gridloom.errors import StoreError
from gridloom.stores.files import locks
from gridloom.stores.files.disk import storage, storage_error, sync_folder
from gridloom.stores.records import Record

FORMAT = 1
SUFFIX = ".jsonl"
SHORTEST_LINE = len('00000000 {"s":0}\n')
"""Bytes of the shortest line, which bounds the sequence number of a line by its place in the file."""
_STAMP = re.compile(r"\d{8}T\d{6}\.\d+")
"""Time in the name of a journal."""
_TABLE_OF, _COLUMNS_OF = itemgetter("t"), itemgetter("r")
MAX_NUMBER = 1e12
"""Bound of the numbers in a header: process ids, and seconds since 1970."""
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_DIGIT_RUN = b"0" * 19
"""Digits, with every digit a 0, of an integer that may have more than 64 bits: orjson reads such as a float."""

_FIELDS: dict[type[Record], tuple[tuple[str, ...], Callable[[Record], tuple[Any, ...]]]] = {}


def _plain(value: Any) -> Any:
    """Encode values without a JSON form: bytes, and numpy scalars and arrays."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$b64": base64.b64encode(value).decode("ascii")}
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a record cannot hold a {type(value).__name__}: {value!r}")


_encoder = json.JSONEncoder(separators=(",", ":"), default=_plain, check_circular=False)


def encode_line(payload: dict[str, Any], *, finite: bool = False) -> bytes:
    """Return the journal line of `payload`.

    Args:
        finite: no float in it is NaN or infinite, which the faster encoder would write as null.
    """
    if finite:
        try:
            body = orjson.dumps(payload, default=_plain)
        except orjson.JSONEncodeError:  # a number of more than 64 bits, half a surrogate pair
            return encode_line(payload)
    else:
        body = _encoder.encode(payload).encode("ascii")
    return b"%08x %b\n" % (zlib.crc32(body), body)


def decode_line(line: bytes) -> dict[str, Any] | None:
    """Return the payload of a line (without its newline), None when the line is damaged."""
    if len(line) < 10 or line[8:9] != b" ":
        return None
    body = line[9:]
    if line[:8] != b"%08x" % zlib.crc32(body):
        return None
    try:
        payload = json.loads(body) if has_long_integer(body) else orjson.loads(body)
    except orjson.JSONDecodeError as error:  # NaN, an infinity, half a surrogate pair
        if "depth limit" in str(error):
            return None
        try:
            payload = json.loads(body)
        except ValueError:
            return None
    except (ValueError, RecursionError):
        return None
    return payload if isinstance(payload, dict) else None


def has_long_integer(text: bytes) -> bool:
    """Return whether JSON text may hold an integer of more than 64 bits, which orjson reads as a float."""
    return _DIGIT_RUN in text.translate(_DIGITS)


def sequence_of(payload: dict[str, Any], end: int) -> int | None:
    """Return the sequence number of a line that ends at byte `end`; None where it has none that can be right."""
    sequence = payload.get("s")
    return sequence if type(sequence) is int and 0 <= sequence <= end // SHORTEST_LINE else None


def units_of(payload: dict[str, Any]) -> tuple[list[str], list[dict[str, Any]]] | None:
    """Return tables and columns of a line's records; None where the payload has another form."""
    units = payload.get("r")
    if type(units) is not list or not {*map(type, units)} <= {dict}:
        return None
    try:
        names, rows = [*map(_TABLE_OF, units)], [*map(_COLUMNS_OF, units)]
    except KeyError:
        return None
    return (names, rows) if {*map(type, names)} <= {str} and {*map(type, rows)} <= {dict} else None


def decode_bytes(value: Any) -> bytes:
    """Return the bytes of a `{"$b64": text}` value. Raises ValueError, TypeError or KeyError when it is none."""
    return base64.b64decode(value["$b64"], validate=True)


def as_columns(record: Record) -> dict[str, Any]:
    """Return the columns of `record` that are set."""
    kind = type(record)
    known = _FIELDS.get(kind)
    if known is None:
        names = tuple(field.name for field in fields(kind))
        known = _FIELDS[kind] = names, attrgetter(*names)
    return {name: value for name, value in zip(known[0], known[1](record), strict=True) if value is not None}


@dataclass(frozen=True, slots=True)
class JournalHeader:
    """Header of a journal: the process that writes it."""

    format: int
    run_id: str
    host: str
    pid: int
    started_at: float
    gridloom_version: str


class JournalWriter:
    """Writer of a journal file of this process, created by the first append. Thread-safe."""

    def __init__(self, folder: Path, run_id: str, *, make_folder: Callable[[], Path] | None = None) -> None:
        self.folder = folder
        self.run_id = run_id
        self.path: Path | None = None
        self._make_folder = make_folder
        self._fd = -1
        self._pid = 0
        self._size = 0
        self._sequence = 0
        self._torn = False
        self._lock = threading.Lock()

    def append(self, records: Sequence[Record]) -> None:
        """Write `records` as one unit: after any crash all of them are there or none.

        When this returns the records survive the death of the process (not yet of the machine: see `sync`).
        Raises StoreError when the disk refuses; what was appended before is untouched.
        """
        if not records:
            return
        units = [{"t": record.TABLE, "r": as_columns(record)} for record in records]
        with self._lock:
            if self._pid != os.getpid():
                # a forked child shares the parent's descriptor: it must not share the parent's file
                self._open()
            self._write({"s": self._sequence, "r": units}, finite=all(record.FINITE for record in records))

    def sync(self) -> None:
        """Sync the file, so that all appended records survive a power failure.

        Raises StoreError when the disk refuses, or the file is no longer in its folder: removed, or its disk unmounted.
        """
        with self._lock:
            if self._fd >= 0 and self._pid == os.getpid():
                with storage("save the journal", self.folder):
                    os.fsync(self._fd)
                    assert self.path is not None, "an open journal has a path"
                    if not os.path.samestat(os.fstat(self._fd), self.path.stat()):
                        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
                    sync_folder(self.folder)

    def close(self) -> None:
        """Sync and release the file; a later append opens a new one."""
        if self._fd < 0:
            return
        try:
            self.sync()
        finally:
            with self._lock:
                os.close(self._fd)
                self._fd, self._pid = -1, 0

    def _open(self) -> None:
        from gridloom.version import __version__

        folder = self._make_folder() if self._make_folder else self.folder
        now_ns = time.time_ns()
        now = now_ns / 1e9
        host = socket.gethostname()
        with storage("start a journal", folder):
            stamp = _next_stamp(folder, now_ns)
        safe_host = "".join(c if c.isalnum() else "_" for c in host)
        path = folder / f"{stamp}-{safe_host}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        with storage("start a journal", folder):
            folder.mkdir(parents=True, exist_ok=True)
            fd = locks.create_held(path)
        if self._fd >= 0:
            os.close(self._fd)
        self.path, self._fd, self._pid = path, fd, os.getpid()
        self._size, self._sequence, self._torn = 0, 0, False
        header = JournalHeader(FORMAT, self.run_id, host, os.getpid(), now, __version__)
        try:
            self._write({"s": 0, "h": {field.name: getattr(header, field.name) for field in fields(header)}})
        except StoreError:
            os.close(fd)
            path.unlink(missing_ok=True)
            self._fd, self._pid = -1, 0
            raise

    def _write(self, payload: dict[str, Any], *, finite: bool = False) -> None:
        line = encode_line(payload, finite=finite)
        try:
            if self._torn:
                self._cut_back()
            written = os.write(self._fd, line)
            if written < len(line):
                self._torn = True
                rest = memoryview(line)[written:]
                while rest:  # a short write comes before the error that explains it
                    count = os.write(self._fd, rest)
                    if count == 0:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                    rest = rest[count:]
                self._torn = False
        except OSError as error:
            if self._torn:
                # when this fails too: readers ignore a tail without a newline, and the next append cuts back first
                with contextlib.suppress(OSError):
                    self._cut_back()
            raise storage_error(error, "append to the journal", self.folder) from error
        self._size += len(line)
        self._sequence += 1

    def _cut_back(self) -> None:
        os.ftruncate(self._fd, self._size)
        self._torn = False


def _next_stamp(folder: Path, now_ns: int) -> str:
    """Return the time in a new journal's name, later than that of every journal in the folder.

    Journals are read in the order of their names, and a clock can be set back: a later journal must not come to lie
    before an earlier one, or a rebuilt ledger would differ from the one that saw them come. Raises OSError.
    """
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 10**9)) + f".{now_ns % 10**9:09d}"
    names = (entry.name for entry in os.scandir(folder)) if folder.is_dir() else ()
    last = max((found[0] for name in names if name.endswith(SUFFIX) and (found := _STAMP.match(name))), default="")
    if stamp > last:
        return stamp
    # of two that begin at once neither is later: equal times do no harm
    day, _, fraction = last.partition(".")
    following = f"{int(fraction) + 1:0{len(fraction)}d}"
    return f"{day}.{following}" if len(following) == len(fraction) else f"{last}0"


@dataclass(frozen=True, slots=True)
class JournalLine:
    """Complete line of a journal; `payload` is None when the line is damaged."""

    end: int
    """Offset of the byte after the line's newline."""
    payload: dict[str, Any] | None


def read_lines(path: Path, start: int = 0, max_bytes: int | None = None) -> Iterator[JournalLine]:
    """Yield the whole lines of a journal from byte `start`, which begins a line; a tail without a newline is left.

    Stops after the line that reaches `max_bytes`. Raises OSError.
    """
    with path.open("rb") as file:
        file.seek(start)
        end = start
        for line in file:
            if not line.endswith(b"\n"):
                return
            end += len(line)
            yield JournalLine(end, decode_line(line[:-1]))
            if max_bytes is not None and end - start >= max_bytes:
                return


def whole_lines(path: Path, start: int, max_bytes: int) -> list[bytes]:
    """Return the whole lines, with newlines, from byte `start`, up to the one that reaches `max_bytes`. Raises OSError.

    The first line of the file, its header, comes alone.
    """
    with path.open("rb") as file:
        file.seek(start)
        lines = [file.readline()] if start == 0 else file.readlines(max_bytes)
    if lines and not lines[-1].endswith(b"\n"):
        lines.pop()
    return lines


def has_whole_line(path: Path, start: int) -> bool:
    """Return whether a complete line begins at byte `start`. Raises OSError."""
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(1 << 16):
            if b"\n" in chunk:
                return True
    return False


def read_header(payload: dict[str, Any], path: Path) -> JournalHeader | None:
    """Return the header that a journal's first line holds, None where it is damaged.

    Raises StoreError when it is of a newer format.
    """
    raw = payload.get("h")
    if not isinstance(raw, dict) or type(raw.get("format")) is not int:
        return None
    if raw["format"] > FORMAT:
        raise StoreError(
            f"journal {path} was written by gridloom {raw.get('gridloom_version', '?')} "
            f"(journal format {raw['format']}, this one reads up to {FORMAT})",
            f"upgrade gridloom (pip install --upgrade gridloom), or move the file out of {path.parent}",
        )
    texts, numbers = ("run_id", "host", "gridloom_version"), ("pid", "started_at")
    if not all(isinstance(raw.get(name), str) for name in texts):
        return None
    if not all(isinstance(raw.get(name), int | float) and abs(raw[name]) < MAX_NUMBER for name in numbers):
        return None
    return JournalHeader(
        format=raw["format"],
        run_id=_storable(raw["run_id"]),
        host=_storable(raw["host"]),
        pid=int(raw["pid"]),
        started_at=float(raw["started_at"]),
        gridloom_version=_storable(raw["gridloom_version"]),
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_live(path: Path) -> bool:
    """Return whether the process that writes this journal is alive (on this machine). Raises OSError."""
    return locks.is_held(path)
