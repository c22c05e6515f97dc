"""Protocols of long work: progress reporters, and the signal to save the state and stop."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager
from typing import Any, Protocol

STOPPING = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2")
    if (number := getattr(signal, name, None)) is not None
)
"""Signals that request a stop: of a terminal, of a system that ends, of a batch system before an allocation ends."""


class ProgressTask(Protocol):
    """Progress of one piece of work; the reporter derives rate and ETA."""

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Advance by `amount` units; `fields` such as loss=1.2 or accepted=6 are shown beside the bar."""


class Progress(Protocol):
    """Reporter of long work: a rich bar on a terminal, plain lines elsewhere, nothing with --quiet."""

    def task(
        self, label: str, total: float | None, unit: str = "it", done: float = 0
    ) -> AbstractContextManager[ProgressTask]:
        """Open a bar; resumed work starts at `done` units."""

    def say(self, text: str) -> None:
        """Print a plain line above the bars."""

    def show(self, renderable: Any) -> None:
        """Print a rich renderable above the bars; a plain-text form elsewhere."""


class StopSignal(Protocol):
    """Flag set by SIGTERM, SIGINT, SIGUSR1, SIGUSR2 or the walltime.

    Stages check the flag between units of work, save their state and raise StageInterrupted.
    """

    def __bool__(self) -> bool: ...

    @property
    def reason(self) -> str:
        """Cause of the stop: 'SIGINT', 'SIGUSR1', 'the walltime of 2 h'."""
