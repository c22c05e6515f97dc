"""Stop signal: SIGTERM, SIGINT, SIGUSR1, SIGUSR2 or a walltime limit request a stage to save and stop.

A second SIGINT ends the process at once. A batch system sends SIGUSR1 or SIGUSR2 some time before an allocation ends.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from gridloom.progress import STOPPING
from gridloom.wording import duration


class StopFlag:
    """StopSignal that signal handlers and the clock can set.

    Args:
        walltime_s: Seconds after which the signal sets itself; None for no limit.
    """

    def __init__(self, walltime_s: float | None = None) -> None:
        self._reason = ""
        self._deadline = None if walltime_s is None else time.monotonic() + walltime_s
        self._walltime_s = walltime_s or 0.0

    def __bool__(self) -> bool:
        if not self._reason and self._deadline is not None and time.monotonic() >= self._deadline:
            self._reason = f"the walltime of {_shown(self._walltime_s)}"
        return bool(self._reason)

    @property
    def reason(self) -> str:
        """Reason for the stop; empty while the signal is not set."""
        return self._reason

    def set(self, reason: str) -> None:
        """Request a stop; the first reason is kept."""
        self._reason = self._reason or reason


def _shown(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else duration(seconds)


@contextmanager
def stop_on_signals(stop: StopFlag) -> Iterator[StopFlag]:
    """Set `stop` on the signals of STOPPING while the block runs; a second SIGINT raises KeyboardInterrupt."""

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop and name == "SIGINT":
            raise KeyboardInterrupt
        stop.set(name)

    previous = {number: signal.signal(number, handle) for number in STOPPING}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
