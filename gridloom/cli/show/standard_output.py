"""Standard output that may be closed, full, or a pipe whose reader has gone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from gridloom.errors import StoreError

PIPE_CLOSED = 141
"""Exit status where the reader of the pipe has gone (`| head`): that of a program that SIGPIPE ended."""


@contextmanager
def standard_output() -> Iterator[None]:
    """Write what the block prints, and flush it.

    Raises:
        StoreError: standard output is closed, or its disk is full.
        SystemExit: the reader of the pipe has gone.
    """
    if sys.stdout is None:
        raise StoreError("standard output is closed", "write to a file (> FILE), or to a terminal")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_the_rest()
        sys.exit(PIPE_CLOSED)
    except OSError as error:
        if error.filename is not None:
            raise
        _discard_the_rest()
        raise StoreError(
            f"cannot write to standard output: {error.strerror or error}", "write to a disk with free space"
        ) from error


def _discard_the_rest() -> None:
    """Send what is still buffered nowhere, so that the interpreter's last flush does not fail again."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
