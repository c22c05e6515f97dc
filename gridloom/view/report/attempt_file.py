"""One attempt as a file: HTML that stands alone, PNG of its grids, GIF of its ACT steps."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gridloom.errors import ReplayError
from gridloom.optional_packages import needed
from gridloom.runtime.show.draw import PALETTE, sheet_png
from gridloom.runtime.show.look import Panel, Sheet
from gridloom.stores.ledger import Ledger
from gridloom.stores.workspace import Workspace
from gridloom.view.pages.attempt import attempt_page
from gridloom.view.reader import Reader
from gridloom.view.report.alone import alone, write_file

SIDE = 320
"""Largest side of a grid in pictures where its cells can be whole pixels of 8 to 32, pixels."""
FRAME_MS, LAST_MS = 600, 2000


def write_attempt(
    ledger: Ledger,
    name: str,
    run: str | None = None,
    stage: str | None = None,
    *,
    html: Path | None = None,
    png: Path | None = None,
    gif: Path | None = None,
) -> list[Path]:
    """Write an attempt in each form that a file is named for; return the files. Raises ReplayError, StoreError."""
    row, written = ledger.attempt(name, run, stage), []
    makers: tuple[tuple[Path | None, Callable[[], str | bytes]], ...] = (
        (html, lambda: attempt_html(ledger.workspace, row["name"])),
        (png, lambda: attempt_png(row)),
        (gif, lambda: attempt_gif(ledger.workspace, row["name"])),
    )
    for path, make in makers:
        if path is not None:
            write_file(path, make())
            written.append(path)
    return written


def attempt_html(workspace: Workspace, name: str) -> str:
    """Return an attempt as HTML, with its difference to the answer where it was scored. Raises ReplayError."""
    reader = Reader(workspace)
    try:
        with reader.session() as session:
            return alone("single_attempt.html", **attempt_page(session, name))
    finally:
        reader.close()


def attempt_png(row: Mapping[str, Any]) -> bytes:
    """Return the grids of an attempt as PNG: demonstrations, then each test input with the proposed grid."""
    task = row["task"] or {"demos": (), "tests": ()}
    rows = [(_panel(pair["input"]), _panel(pair["output"])) for pair in task["demos"]]
    tests = [*task["tests"]] + [None] * len(row["grids"])
    rows += [(_panel(tests[i]), _panel(grid)) for i, grid in enumerate(row["grids"])]
    return sheet_png(Sheet("", tuple(rows)), _cell([panel for pair in rows for panel in pair]))


def _cell(panels: Sequence[Panel]) -> int:
    """Return the side of a cell in pixels: small grids are drawn large."""
    largest = max((max(panel.grid.shape) for panel in panels if panel.grid is not None), default=1)
    return max(8, min(32, SIDE // largest))


def _panel(grid: Any) -> Panel:
    return Panel("", np.array(grid, dtype=np.uint8) if grid else None)


def attempt_gif(workspace: Workspace, name: str) -> bytes:
    """Return the ACT steps of an attempt as an animated GIF, its test inputs side by side, by running its network.

    Raises ReplayError: no network with ACT steps ran, or the record or checkpoint is missing.
    """
    with needed("PIL", "plots", "an animated picture"):
        from PIL import Image
    from gridloom.solvers.replay.playback import play
    from gridloom.solvers.replay.replay import Replayer

    played = play(Replayer(workspace), name)
    number = max(len(test.grids) for test in played.tests)
    rows = [tuple(_panel(test.grids[min(n, len(test.grids) - 1)]) for test in played.tests) for n in range(number)]
    cell = _cell([panel for row in rows for panel in row])
    frames = [sheet_png(Sheet("", (row,)), cell) for row in rows]
    images = [Image.open(io.BytesIO(frame)).convert("RGB") for frame in frames]
    if not images:
        raise ReplayError(f"attempt {name} has no ACT steps", "")
    size = (max(image.width for image in images), max(image.height for image in images))
    canvases = []
    for image in images:
        canvas = Image.new("RGB", size, "white")
        canvas.paste(image, (0, 0))
        canvases.append(canvas.quantize(palette=_palette(Image), dither=Image.Dither.NONE))
    out = io.BytesIO()
    durations = [FRAME_MS] * (number - 1) + [LAST_MS]
    canvases[0].save(out, "GIF", save_all=True, append_images=canvases[1:], duration=durations, loop=0)
    return out.getvalue()


def _palette(image: Any) -> Any:
    colours = [value for colour in (*PALETTE, (255, 255, 255), (85, 85, 85)) for value in colour]
    made = image.new("P", (1, 1))
    made.putpalette(colours + colours[:3] * (256 - len(colours) // 3))
    return made
