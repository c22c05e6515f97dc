"""Messages between driver and workers: JSON objects, one a line, the same for every kind of cluster.

Driver to worker: `begin` (a job), `item`, `end` (of a job), `stop`, `artifact`. Worker to driver: `hello`, `ready`,
`refused`, `done`, `failed`, `interrupted`, `ended`, `say`. The driver's own event `gone` reports a lost worker.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import platform
import socket
import time
import traceback
from pathlib import Path
from typing import Any

import gridloom.errors as errors
from gridloom.errors import GridloomError, StageError
from gridloom.version import __version__

Message = dict[str, Any]
PROTOCOL = 1
"""Version of the messages."""
MAX_SKEW_S = 60.0
"""Difference of clocks above which the driver prints a warning, s; no result depends on a clock."""


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$b64": base64.b64encode(value).decode("ascii")}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a message cannot hold a {type(value).__name__}: {value!r}")


def encode(message: Message) -> bytes:
    """Return a message as one line with its newline; bytes inside become `{"$b64": text}`."""
    return json.dumps(message, separators=(",", ":"), default=_plain).encode("ascii") + b"\n"


def decode(line: bytes) -> Message:
    """Return the message of a line. Raises ValueError."""
    found = json.loads(line, object_hook=_bytes)
    if not isinstance(found, dict):
        raise ValueError("a message is an object")
    return found


def _bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["$b64"], validate=True) if value.keys() == {"$b64"} else value


@functools.cache
def code_digest() -> str:
    """Return a digest of gridloom's source: eight hexadecimal digits over names and contents of its modules."""
    root = Path(errors.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:8]


def host() -> str:
    """Return the name of this machine: its name in Slurm where Slurm started this process."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def hello(worker: str) -> Message:
    """Return a worker's first message: who it is, and what it runs."""
    return {
        "is": "hello",
        "worker": worker,
        "protocol": PROTOCOL,
        "gridloom": __version__,
        "code": code_digest(),
        "host": host(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "clock": time.time(),
    }


def version_problem(greeting: Message) -> str:
    """Return why the driver refuses a worker, naming host and versions; empty where both run the same gridloom."""
    theirs, ours = (
        (greeting.get("protocol"), greeting.get("gridloom"), greeting.get("code")),
        (PROTOCOL, __version__, code_digest()),
    )
    if theirs == ours:
        return ""
    return (
        f"worker {greeting.get('worker')} on {greeting.get('host')} runs gridloom {greeting.get('gridloom')} "
        f"(code {greeting.get('code')}), this driver gridloom {__version__} (code {code_digest()})"
    )


def skew_s(greeting: Message, received_at: float) -> float:
    """Return how far a worker's clock is ahead of the driver's, s; the time of the message's way counts with it."""
    return float(greeting.get("clock", received_at)) - received_at


def describe_error(error: BaseException) -> Message:
    """Return an error as plain data; a bug keeps its traceback."""
    if isinstance(error, GridloomError) and type(error).__module__ == errors.__name__:
        return {"type": type(error).__name__, "message": error.message, "remedy": error.remedy}
    text = "".join(traceback.format_exception(error))
    return {"type": "", "message": text.rstrip(), "remedy": ""}


def error_of(described: Message, worker: str) -> GridloomError:
    """Return the exception that a worker described; a bug becomes a StageError with the worker's traceback."""
    kind = getattr(errors, str(described["type"]), None) if described["type"] else None
    if isinstance(kind, type) and issubclass(kind, GridloomError) and kind is not errors.SpecError:
        return kind(described["message"], described["remedy"])
    return StageError(f"worker {worker} failed:\n{described['message']}")
