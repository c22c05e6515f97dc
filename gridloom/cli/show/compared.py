"""Expected grids beside picked or proposed ones, with the cells that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from gridloom.cli.show.attempts import SideBySide, differing_cells, task_view
from gridloom.wording import counted, printable

Grid = list[list[int]]
MAX_CELLS = 8
"""Number of differing cells that are listed by place."""


def difference_text(expected: Grid, given: Grid) -> str:
    """Return what differs: sizes, or the number of cells and the first of them as (row, column) given, expected."""
    if expected == given:
        return "right"
    if not given or not given[0]:
        return "no grid"
    cells = differing_cells(given, expected)
    if not cells:
        return f"{len(given)}x{len(given[0])}, expected {len(expected)}x{len(expected[0])}"
    shown = ", ".join(f"({row + 1},{column + 1}) {was} not {wanted}" for row, column, was, wanted in cells[:MAX_CELLS])
    more = ", ..." if len(cells) > MAX_CELLS else ""
    return f"{len(cells)} of {counted(len(given) * len(given[0]), 'cell')} wrong: {shown}{more}"


def compared_view(expected: Sequence[Grid], given: Sequence[tuple[int, str, Grid]]) -> RenderableType:
    """Draw each expected grid beside the given ones for its test input; wrong cells are marked `!`.

    Args:
        given: (index of the test input, title, grid).
    """
    parts: list[RenderableType] = []
    for index, wanted in enumerate(expected):
        here = [(title, grid) for at, title, grid in given if at == index]
        marked: list[tuple[str, Any]] = [(f"test {index + 1} expected", wanted)]
        marks: list[set[tuple[int, int]]] = [set()]
        for title, grid in here:
            marked.append((title, grid))
            marks.append({(row, column) for row, column, _, _ in differing_cells(grid, wanted)})
        parts.append(SideBySide(marked, tuple(marks)))
        parts += [Text(printable(f"{title}: {difference_text(wanted, grid)}")) for title, grid in here]
    return Group(*parts)


def solved_task_view(
    task: Mapping[str, Any], picks: Sequence[Mapping[str, Any]], expected: Sequence[Grid] | None
) -> RenderableType:
    """Draw a task with its picks, and the expected grids where they are known.

    Args:
        task: columns of a TaskRecord.
        picks: columns of its PickRecords.
    """
    head = task_view(task["task_id"], [(d["input"], d["output"]) for d in task["demos"]], task["tests"])
    ordered = sorted(picks, key=lambda pick: (pick["test_index"], pick["rank"]))
    titled = [
        (int(pick["test_index"]), f"test {pick['test_index'] + 1} pick {pick['rank'] + 1}", pick["grid"])
        for pick in ordered
    ]
    if expected is None:
        note = Text("the right answers are not known here: no `score` stage has read them", style="dim")
        return Group(head, SideBySide([(title, grid) for _, title, grid in titled]), note)
    return Group(head, compared_view(expected, titled))
