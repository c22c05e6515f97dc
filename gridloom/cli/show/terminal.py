"""Console for everything that is drawn on a terminal: no markup is read from text, and what acts on it is escaped."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from gridloom.cli.output import exact
from gridloom.wording import printable


class Terminal(Console):
    """Console over the exact standard output, or error, that escapes every text which it renders."""

    def __init__(self, *, stderr: bool = False, **options: Any) -> None:
        file = options.pop("file", None) or exact(sys.stderr if stderr else sys.stdout)
        super().__init__(file=file, markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as segments whose texts are escaped."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)
