"""One process of a torchrun that `gridloom run --on torchrun:N` started: the command line, and the report of rank 0."""

from __future__ import annotations

import os
from pathlib import Path

from gridloom.runtime.cluster.torchrun import REPORT


def main() -> None:
    """Run the command line; rank 0 reports its process id and its exit status."""
    report = Path(os.environ[REPORT]) if os.environ.get("RANK") == "0" else None
    if report is not None:
        _add(report, f"pid {os.getpid()}")
    from gridloom.plugins import load_place

    status = 1
    try:
        # by name: the command line stands above this layer
        load_place("gridloom.cli.entry:main")()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        raise
    finally:
        if report is not None:
            _add(report, f"status {status}")


def _add(report: Path, line: str) -> None:
    with report.open("a", encoding="ascii") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main()
