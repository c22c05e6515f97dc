"""Progress reporters: rich bars on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from gridloom.cli.show.attempts import TaskBlocks
from gridloom.progress import ProgressTask
from gridloom.wording import printable

PLAIN_EVERY_S = 10.0
RATE_AFTER = 3
"""Number of advances from which a live bar shows its rate: the first ones are of loading and compiling."""


def reporter(console: Console, quiet: bool, *, bars: Console | None = None, verbose: bool = True) -> Reporter:
    """Return the reporter that suits the consoles.

    Args:
        console: where results and events go.
        bars: where progress goes, standard error; `console` when absent. Where both are one terminal, results are
            printed through the bars, which would otherwise be drawn over them.
        verbose: whether the grids of every solved task are drawn; else those of the first few, and a line for each.
    """
    if quiet:
        return Reporter(console, show_events=False)
    progress = console if bars is None else bars
    if progress.is_terminal:
        return RichReporter(progress if console.is_terminal else console, progress, verbose)
    return PlainReporter(console, progress=progress, verbose=verbose)


class _Quiet:
    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Print nothing."""


class Reporter:
    """Base of the reporters: prints results and events, no bars."""

    def __init__(
        self,
        console: Console,
        show_events: bool = True,
        *,
        progress: Console | None = None,
        verbose: bool = True,
    ) -> None:
        self.console = console
        self.progress = console if progress is None else progress
        self._show_events = show_events
        self._blocks = TaskBlocks(verbose)

    @contextmanager
    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[ProgressTask]:
        """Open a bar that shows nothing."""
        yield _Quiet()

    def say(self, text: str) -> None:
        """Print one line, where progress goes."""
        if self._show_events:
            self.progress.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def show(self, thing: Any) -> None:
        """Print a task of the solver when its last event is in, or any rich renderable at once."""
        if self._show_events and (block := self._blocks.add(thing)) is not None:
            self.console.print(block)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 24:
        return f"{hours // 24} d {hours % 24}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rate(rate: float, unit: str) -> str:
    if unit == "s":  # no rate for a budget of seconds, which is always one second per second
        return ""
    return f"{rate:.1f} {unit}/s" if rate >= 1 else f"{rate * 60:.1f} {unit}/min"


def _fields(fields: dict[str, Any]) -> str:
    shown = fields.items()
    return "  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in shown)


class _PlainTask:
    def __init__(self, console: Console, label: str, total: float | None, unit: str, done: float) -> None:
        self._console, self._label, self._total, self._unit = console, label, total, unit
        self._done = self._from = done
        self._start = self._last = time.monotonic()
        self._fields: dict[str, Any] = {}

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Advance; a line is printed every few seconds."""
        self._done += amount
        self._fields.update(fields)
        if time.monotonic() - self._last >= PLAIN_EVERY_S:
            self.line()

    def line(self, end: bool = False) -> None:
        """Print the progress: count, rate, ETA, fields."""
        self._last = time.monotonic()
        elapsed = self._last - self._start
        rate = (self._done - self._from) / elapsed if elapsed > 0 else 0.0
        of = f"/{self._total:g}" if self._total is not None else ""
        left = ""
        if end:
            left = f"  in {_clock(elapsed)}"
        elif rate > 0 and self._total is not None:
            left = f"  ETA {_clock((self._total - self._done) / rate)}"
        speed, fields = _rate(rate, self._unit), _fields(self._fields)
        parts = f"{self._label}  {int(self._done)}{of} {self._unit}", speed, left.strip(), fields
        line = "  ".join(part for part in parts if part)
        self._console.print(printable(line), highlight=False, markup=False, soft_wrap=True)


class PlainReporter(Reporter):
    """Plain lines for logs and pipes."""

    @contextmanager
    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[ProgressTask]:
        """Open a task that prints a line every few seconds and one at its end if it took longer than two."""
        task = _PlainTask(self.progress, label, total, unit, done)
        try:
            yield task
        finally:
            if time.monotonic() - task._start > 2:
                task.line(end=True)


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        early = task.fields.get("advances", 0) < RATE_AFTER and not task.finished
        speed = None if early else task.finished_speed or task.speed
        return Text("" if speed is None else _rate(speed, str(task.fields.get("unit", "it"))))


class _EtaColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.finished:
            return Text(f"in {_clock(task.finished_time or 0)}")
        early = task.fields.get("advances", 0) < RATE_AFTER
        return Text("" if task.time_remaining is None or early else f"ETA {_clock(task.time_remaining)}")


class _RichTask:
    def __init__(self, bars: Progress, task_id: TaskID) -> None:
        self._bars, self._id = bars, task_id
        self._fields: dict[str, Any] = {}
        self._advances = 0

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Advance and show the fields beside the bar."""
        self._fields.update(fields)
        self._advances += amount > 0
        shown = printable(_fields(self._fields))
        self._bars.update(self._id, advance=amount, shown=shown, advances=self._advances)


class RichReporter(Reporter):
    """Live bars; everything else is printed above them."""

    def __init__(self, console: Console, progress: Console | None = None, verbose: bool = True) -> None:
        super().__init__(console, progress=progress, verbose=verbose)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            _RateColumn(),
            _EtaColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=self.progress,
            redirect_stdout=False,  # what is printed passes `console`; a pipe must not get it twice
            transient=False,
        )
        self._open = 0

    @contextmanager
    def task(self, label: str, total: float | None, unit: str = "it", done: float = 0) -> Iterator[ProgressTask]:
        """Open a live bar; nested bars are shown below it."""
        if self._open == 0:
            self._bars.start()
        self._open += 1
        task_id = self._bars.add_task(printable(label), total=total, completed=done, unit=unit, shown="")  # type: ignore[arg-type]
        try:
            yield _RichTask(self._bars, task_id)
        finally:
            self._open -= 1
            if self._open == 0:
                self._bars.stop()
                for finished in list(self._bars.task_ids):
                    self._bars.remove_task(finished)
