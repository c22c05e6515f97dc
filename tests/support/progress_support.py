"""Progress reporter of tests: it records messages, bars and what is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Bar:
    """Progress bar that records its advances."""

    done: float = 0
    fields: dict[str, Any] = field(default_factory=dict)

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Count."""
        self.done += amount
        self.fields.update(fields)


@dataclass
class Reporter:
    """Progress reporter that records messages, bars and what is shown."""

    lines: list[str] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)

    @contextmanager
    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[Bar]:
        """Open a bar."""
        self.bars.append(Bar(done))
        yield self.bars[-1]

    def say(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)

    def show(self, renderable: Any) -> None:
        """Keep an event."""
        self.shown.append(renderable)
