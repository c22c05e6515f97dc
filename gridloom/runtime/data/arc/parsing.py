"""Parser of the grid in a language model's text.

Every grid of the text is found, in brackets (`bracketed_grids`), as a block
sequence (`block_lists`) or printed as lines (`printed_grids`), and the best one
is chosen: a grid that the text calls its answer before others, a copy of a grid in the prompt after others; then
`[[...]]` before a fenced block before lines; then the last one. Text of a reasoning block (`<think>`) is read only when
nothing stands outside. The choice, what it was chosen from and what was refused are part of the result, and recorded.

Attempts recorded by parser 1 replay by parser 1.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gridloom.runtime.data.arc import block_lists, bracketed_grids, printed_grids
from gridloom.runtime.data.arc.found_grid import FoundGrid
from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Grid

PARSER = 2
"""Version of `read_grid_text`; a change of its results is a new version, since recorded attempts must replay."""
TAGS = "think|thinking|thought|thoughts|reasoning|scratchpad"
THINK_END = re.compile(rf"</(?:{TAGS})>|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>|\[/THINK\]", re.I)
THINK_START = re.compile(rf"<(?:{TAGS})>|<\|begin_of_thought\|>|<\|channel\|>analysis<\|message\|>|\[THINK\]", re.I)
LEAD = 80
"""Characters before a grid in which the text may call it the answer."""
CALLED_ANSWER = re.compile(
    r"(?:\\boxed\s*\{|\b(?:answer|solution|final(?:\s+(?:grid|output|result|answer))?)\b"
    r"(?:\W|\b(?:is|grid|output|of|for|the|test|input|as|follows|therefore|np|numpy|array|json|text|python|plaintext|[0-9])\b)*)\Z",
    re.I,
)
_ROW = re.compile(r"^\s*\[*\s*[0-9](?:[\s,]*[0-9])*\s*\]*,?\s*$")
"""Row of parser 1: single digits, separated or not, with optional commas and brackets."""
_STRENGTH = {"brackets": 0, "fenced": 1, "tuples": 2, "rows": 2, "row": 3}


@dataclass(frozen=True, slots=True)
class Shown:
    """Grids that stand in the prompt, and the place of the asked grid among several."""

    test_input: Grid | None = None
    others: Sequence[Grid] = ()
    """Inputs and outputs of the demonstrations."""
    test_index: int = 0
    num_tests: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """Grid of a text, with the choice that led to it."""

    grid: GridRows
    """Chosen grid; [] where the text holds none."""
    writing: str = ""
    """Way in which it is written; empty without a grid."""
    start: int = 0
    end: int = 0
    rivals: int = 0
    """Number of other distinct grids in the text."""
    note: str = ""
    """Ambiguity, or the reason why there is no grid; empty where the text holds one grid alone."""
    cut: bool = False
    """Whether the model stopped at its limit of tokens."""

    def as_dict(self) -> dict[str, Any]:
        """Return what is recorded with an attempt, as plain data."""
        return {
            "parser": PARSER,
            **{name: getattr(self, name) for name in ("writing", "start", "end", "rivals", "note", "cut")},
        }


def read_grid_text(text: str, shown: Shown | None = None, *, cut: bool = False) -> Reading:
    """Return the answer's grid, or the reason why there is none. Time is linear in the text's length.

    Args:
        shown: grids of the prompt, copies of which are chosen last.
        cut: whether the model stopped at its limit of tokens, so that the text may lack its end.
    """
    shown = shown or Shown()
    answer, thinking = _parts(text)
    found = _found(text, answer, shown)
    inside = not found and thinking is not None
    if inside and thinking is not None:
        found = _found(text, thinking, shown)
    if not found:
        what = "the text is empty" if not text.strip() else "the text holds no grid"
        return Reading([], note=f"{what}{_at_limit(cut)}", cut=cut)
    last = found[-1]
    if last.cut:
        return Reading([], note=last.refused, cut=cut)
    ranks = [_rank(text, place, found, shown) for place in range(len(found))]
    usable = [place for place, one in enumerate(found) if one.grid]
    refused = [one for one in found if one.refused]
    if not usable:
        return Reading([], note=refused[-1].refused + _at_limit(cut), cut=cut)
    best = min(usable, key=lambda place: ranks[place])
    worse = [place for place, one in enumerate(found) if one.refused and ranks[place][:2] < ranks[best][:2]]
    if worse:  # the text's own answer is malformed; another grid of the text is none
        return Reading([], note=found[worse[-1]].refused + _at_limit(cut), cut=cut)
    grid = found[best].grid
    rivals = {_key(found[place].grid) for place in usable} - {_key(grid)}
    notes = [
        f"{len(rivals)} other {'grid' if len(rivals) == 1 else 'grids'} in the text" if rivals else "",
        f"refused: {refused[-1].refused}" if refused else "",
        _copy_of(grid, shown),
        "read from the reasoning" if inside else "",
        "the text ends with the grid at the limit of tokens"
        if cut and not text[found[best].end :].strip(" \n\r\t`]})*")
        else "",
    ]
    return Reading(
        grid,
        writing=found[best].writing,
        start=found[best].start,
        end=found[best].end,
        rivals=len(rivals),
        note="; ".join(filter(None, notes)),
        cut=cut,
    )


def last_block(text: str) -> GridRows | None:
    """Return the last rectangular block of digit lines, sides 1 to 30; None if there is none. This is parser 1."""
    blocks: list[GridRows] = [[]]
    for line in text.splitlines():
        if _ROW.match(line):
            blocks[-1].append([int(digit) for digit in re.findall(r"[0-9]", line)])
        elif blocks[-1]:
            blocks.append([])
    for block in reversed(blocks):
        if block and len({len(row) for row in block}) == 1 and len(block) <= 30 and len(block[0]) <= 30:
            return block
    return None


def _at_limit(cut: bool) -> str:
    return ", and the model stopped at its limit of tokens" if cut else ""


def _parts(text: str) -> tuple[tuple[int, int], tuple[int, int] | None]:
    """Return the places of the answer and of the reasoning block; None for the latter without one."""
    end = next(iter(deque(THINK_END.finditer(text), maxlen=1)), None)
    if end is not None:
        opened = THINK_START.search(text, 0, end.start())
        return (end.end(), len(text)), (opened.end() if opened else 0, end.start())
    start = THINK_START.search(text)
    if start is not None:
        return (0, start.start()), (start.end(), len(text))
    return (0, len(text)), None


def _found(text: str, part: tuple[int, int], shown: Shown) -> list[FoundGrid]:
    """Return grids and refused grids of a part of the text, in the order of their ends, by places in the whole text."""
    offset = part[0]
    piece = text[slice(*part)]
    bracketed = bracketed_grids.find(piece)
    blocks = block_lists.find(piece)
    spans = sorted((one.start, one.end) for one in (*bracketed.found, *blocks))
    left_out: set[int] = set()
    for of_list in bracketed.lists:
        if len(of_list) == shown.num_tests:
            left_out |= {index for place, index in enumerate(of_list) if place != shown.test_index}
    found = [one for index, one in enumerate(bracketed.found) if index not in left_out]
    grids = [shown.test_input, *shown.others]
    one_row = any(grid is not None and len(grid) == 1 for grid in grids)
    found += blocks + printed_grids.find(piece, spans, one_row=one_row)
    return [
        FoundGrid(one.start + offset, one.end + offset, one.writing, one.grid, one.refused, one.cut)
        for one in sorted(found, key=lambda one: one.end)
    ]


def _rank(text: str, place: int, found: Sequence[FoundGrid], shown: Shown) -> tuple[int, int, int]:
    """Return the rank of a grid, the lowest is chosen: group, strength of the writing, the last first."""
    one = found[place]
    lead = max(one.start - LEAD, found[place - 1].end if place else 0)
    is_answer = bool(CALLED_ANSWER.search(text[lead : one.start]))
    is_input = shown.test_input is not None and bool(one.grid) and np.array_equal(one.grid, shown.test_input)
    if is_answer and not is_input:
        group = 0
    elif one.writing == "row" and not _one_row(shown) and len(found) > 1:
        group = 3
    elif is_input or _copy_of(one.grid, shown):
        group = 2
    else:
        group = 1
    return group, _STRENGTH[one.writing], -place


def _one_row(shown: Shown) -> bool:
    return any(len(grid) == 1 for grid in (shown.test_input, *shown.others) if grid is not None)


def _copy_of(grid: GridRows, shown: Shown) -> str:
    """Return a note where a grid equals one of the prompt; else an empty text."""
    if not grid:
        return ""
    if shown.test_input is not None and np.array_equal(grid, shown.test_input):
        return "equal to the test input"
    return "equal to a grid of the examples" if any(np.array_equal(grid, one) for one in shown.others) else ""


def _key(grid: GridRows) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, grid))
