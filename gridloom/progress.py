"""Protocols of progress and stop: what long work reports to, and what asks it to save and end."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol


class ProgressTask(Protocol):
    """One bar: rate and ETA are the reporter's business."""

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Move on by `amount`; `fields` such as loss=1.2 or accepted=6 are shown beside the bar."""


class Progress(Protocol):
    """Reports long work: a rich bar on a terminal, plain lines elsewhere, nothing with --quiet."""

    def task(
        self, label: str, total: float | None, unit: str = "it", done: float = 0
    ) -> AbstractContextManager[ProgressTask]:
        """Open a bar; `done` is where a resumed piece of work starts."""

    def say(self, text: str) -> None:
        """One plain line, kept above the bars."""

    def show(self, renderable: Any) -> None:
        """A rich renderable, kept above the bars; a plain-text form elsewhere."""


class StopSignal(Protocol):
    """Set by SIGTERM, SIGINT or a walltime limit; stages look between units of work, save, raise StageInterrupted."""

    def __bool__(self) -> bool: ...

    @property
    def reason(self) -> str:
        """Why: 'SIGINT', 'SIGTERM', 'walltime 2:00:00'."""
