"""One process of a torchrun that `gridloom run --on torchrun:N` started: the command line, and the report of rank 0."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType

from gridloom.progress import STOPPING
from gridloom.runtime.cluster.torchrun import INTERRUPTED, REPORT


def main() -> None:
    """Run the command line; rank 0 reports its process id and its exit status."""
    report = Path(os.environ[REPORT]) if os.environ.get("RANK") == "0" else None
    status = 1
    try:
        if report is not None:
            for number in STOPPING:  # until the run sets handlers of its own, which takes seconds of imports
                signal.signal(number, _end)
            _add(report, f"pid {os.getpid()}")
        from gridloom.plugins import load_place

        # by name: the command line stands above this layer
        load_place("gridloom.cli.entry:main")()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    finally:
        if report is not None:
            _add(report, f"status {status}")


def _end(number: int, frame: FrameType | None) -> None:
    """End a run that has begun nothing as one that was interrupted."""
    raise SystemExit(INTERRUPTED)


def _add(report: Path, line: str) -> None:
    with report.open("a", encoding="ascii") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main()
