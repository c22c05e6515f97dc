"""Grids that a text prints as lines of digits: with spaces, commas, pipes or nothing between them, labels, tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gridloom.runtime.data.arc.found_grid import KEPT, FoundGrid, Writing, check_rows

LINE_END = re.compile(r"\\\\[ \t]*(?:\r\n|\r|\n)?|\r\n|\r|\n")
"""End of a line; two backslashes end a row of a LaTeX matrix."""
FENCE = re.compile(r"\s*(?:```|~~~)\s*[\w+-]*\s*\Z")
LABEL = re.compile(
    r"(?:(?:row|line|r)\s*#?\s*([0-9]{1,2})\s*(?:[:.)=|-]|->|→)*|([0-9]{1,2})\s*(?:[:)]|\.(?=\s)))\s*", re.I
)
ORNAMENT = re.compile(r"(?:>\s+|[-*•]\s+|\$+|\\begin\{\w+\}(?:\{\w+\})?|\\boxed\{|\*\*|`+)\s*")
LEAD = re.compile(r"(?:[^0-9\[\]()|<>]{0,60}[:=]|<\w+>|.{0,200}\\begin\{\w+\}(?:\{[lcr|@!{} ]*\})?)[\s*`]*(?=[0-9])")
"""Words before a row on its line: `Output: 0 0 5`, `The answer is $\\begin{array}{ccc} 0 & 0 & 5`."""
LEAD_ANSWER = re.compile(r"answer|solution|boxed|\\begin\{", re.I)
AFTER = re.compile(r"(?:</\w+>|\\end\{\w+\}|\\right\s*[\])|.]|\\[\])]|[`*$},;]|\\|(?<=[$}\])`])\.)\s*\Z")
LABEL_CELL = re.compile(r"(?:row|line|r)\s*#?\s*([0-9]{1,2})\s*:?\Z", re.I)
CORNER = ("", "#", "row", "\\", "/")
"""First cells of a table's head whose column holds row numbers."""
RULE = re.compile(r"\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\Z")
"""Line below the head of a Markdown table."""
GROUPS = re.compile(r"[\[(]([0-9][0-9\s,]*)[\])]")
NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?\Z")
SEPARATOR = re.compile(r"[\s,;|│┃&]+")
MAX_LINE = 600
"""Characters of the longest line that can be a row of 30 cells."""
Style = Literal["digits", "cells", "either", "table"]


@dataclass(slots=True)
class _Line:
    start: int
    end: int
    rows: list[list[int]] = field(default_factory=list)
    style: Style = "either"
    label: int | None = None
    lead: str = ""
    """Words before the row."""
    why: str = ""
    kind: Literal["row", "blank", "fence", "rule", "words", "head"] = "row"


@dataclass(slots=True)
class _Block:
    lines: list[_Line]
    fenced: bool
    blank_before: bool = False
    """Whether only one blank line stands between the block and the one before."""

    @property
    def num_rows(self) -> int:
        return sum(len(line.rows) for line in self.lines)


def find(text: str, spans: Sequence[tuple[int, int]], *, one_row: bool) -> list[FoundGrid]:
    """Return the grids that are printed as lines, in order.

    Args:
        spans: places (start, end), sorted, whose lines are left out, since they hold grids in brackets.
        one_row: whether grids of one row are expected; else single lines, each after a blank line, are one grid.
    """
    blocks = list(_blocks(_lines(text, spans)))
    if not one_row:
        blocks = _joined(blocks)
    return [_found(block) for block in blocks]


def _lines(text: str, spans: Sequence[tuple[int, int]]) -> Iterator[_Line]:
    start, at = 0, 0
    for end, after in [*((found.start(), found.end()) for found in LINE_END.finditer(text)), (len(text), len(text))]:
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        if at < len(spans) and spans[at][0] < end:
            yield _Line(start, end, kind="words")
        else:
            yield _line(text, start, end)
        start = after


def _line(text: str, start: int, end: int) -> _Line:
    line = _Line(start, end)
    if end - start > MAX_LINE:
        line.kind = "words"
        return line
    part = text[start:end]
    bare = part.strip()
    if not bare:
        line.kind = "blank"
    elif FENCE.match(part):
        line.kind = "fence"
    elif RULE.match(bare) and "|" in bare:
        line.kind = "rule"
    elif bare.isascii() and bare.replace(" ", "").isdigit():  # the usual row, without the regular expressions
        _read_cells(line, [bare.split()], is_table=False)
    else:
        lead = LEAD.match(bare)
        if lead is not None and not LABEL.match(bare):
            line.lead = lead.group()
            line.start += part.index(bare) + lead.end()
            bare = bare[lead.end() :]
        _read_row(line, _bare(bare))
        if line.lead and line.why:
            line.kind = "words"
    return line


def _bare(line: str) -> str:
    """Return a line without list markers, quotes, bold, math and code marks around it."""
    while match := ORNAMENT.match(line):
        line = line[match.end() :]
    while match := AFTER.search(line):
        line = line[: match.start()].rstrip()
    return line.strip()


def _read_row(line: _Line, bare: str) -> None:
    """Set the line's rows, or its kind `words` or `head`, or the reason why its numbers are no row."""
    label = LABEL.match(bare)
    if label is not None and label.end() < len(bare):
        line.label = int(label.group(1) or label.group(2))
        bare = bare[label.end() :]
    groups = GROUPS.findall(bare)
    parts = groups if groups and not GROUPS.sub("", bare).strip(" ,") else _rows_of_matrix(bare.strip("[]() "))
    if not parts[0]:
        line.kind = "words"
        return
    is_table = bare.startswith("|") or (bare.count("|") > 1)
    split = [
        [cell.strip() for cell in part.strip("|").split("|")] if is_table else SEPARATOR.split(part.strip(" ,;|"))
        for part in parts
    ]
    _read_cells(line, split, is_table=is_table)


def _rows_of_matrix(row: str) -> list[str]:
    """Return the rows of `0 0 5; 0 5 0`, as Matlab writes a matrix; `0;0;5` is one row."""
    rows = [part.strip() for part in row.strip(" ;").split(";")]
    return rows if len(rows) > 1 and all(SEPARATOR.search(part) for part in rows) else [row]


def _read_cells(line: _Line, parts: Sequence[list[str]], *, is_table: bool) -> None:
    """Set the line's rows, or its kind `words` or `head`, or the reason why its numbers are no row."""
    for cells in parts:
        if is_table and cells[0].lower() in CORNER and len(cells) > 1:
            line.kind, line.style, line.why = "head", "table", "an empty cell"
            line.rows.append([])
            return
        if is_table and (label := LABEL_CELL.match(cells[0])):
            line.label, cells = int(label.group(1)), cells[1:]
        if cells and all(len(cell) == 1 and cell in "0123456789" for cell in cells):
            line.rows.append(list(map(int, cells)))
            line.style = "table" if is_table else "either" if len(cells) == 1 else "cells"
        elif len(cells) == 1 and cells[0].isascii() and cells[0].isdigit():
            line.rows.append([int(digit) for digit in cells[0]])
            line.style = "digits"
        elif is_table and all(cell == "" or cell in "0123456789" or NUMBER.match(cell) for cell in cells):
            line.style = "table"
            line.rows.append([])
            line.why = "an empty cell" if "" in cells else f"{max(cells, key=len)[:12]} is not a colour 0-9"
        elif cells and all(NUMBER.match(cell) for cell in cells):
            line.rows.append([])
            line.why = f"{max(cells, key=len)[:12]} is not a colour 0-9"
        else:
            line.kind = "words"
            return


def _blocks(lines: Iterator[_Line]) -> Iterator[_Block]:
    """Yield runs of consecutive lines of one style."""
    block: list[_Line] = []
    fenced = False
    num_blank = 0
    blank_before = False
    for line in lines:
        if block and (line.kind not in ("row", "rule", "head") or not _goes_on(block, line)):
            if _stands(block):
                yield _Block(block, fenced, blank_before)
            block, num_blank = [], 0
        if line.kind in ("row", "head"):
            if not block:
                blank_before = num_blank == 1
            _append(block, line)
        elif line.kind == "rule":
            if len(block) == 1:
                block.append(line)
        elif line.kind == "blank":
            num_blank += 1
        else:
            num_blank = 2  # words stand between
            fenced = not fenced if line.kind == "fence" else fenced
    if block and _stands(block):
        yield _Block(block, fenced, blank_before)


def _stands(block: list[_Line]) -> bool:
    """Return whether a block is a grid by itself: `Colours: 5` alone is none, `Answer: 5` is."""
    return len(block) > 1 or not block[0].lead or LEAD_ANSWER.search(block[0].lead) is not None


def _append(lines: list[_Line], line: _Line) -> None:
    """Append a line; of a block that is too long for a grid only the end moves."""
    if len(lines) <= 2 * KEPT:
        lines.append(line)
    else:
        lines[-1].end = line.end


def _goes_on(block: list[_Line], line: _Line) -> bool:
    """Return whether a line belongs to a block: rows of one style; a head and a rule only at the top."""
    if line.kind == "rule":
        return len(block) == 1 and block[0].style == "table"
    if line.kind == "head" or line.lead:
        return False
    if block[0].lead and len(block) == 1 and list(map(len, block[0].rows)) != list(map(len, line.rows)):
        return False
    styles = {one.style for one in (block[0], block[-1], line) if one.kind != "rule" and one.style != "either"}
    labels = (block[-1].label, line.label)
    return (len(styles) <= 1 and (labels[0] is None) == (labels[1] is None)) or block[-1].kind == "rule"


def _joined(blocks: list[_Block]) -> list[_Block]:
    """Return the blocks with single lines of one width, with a blank line between each two, joined to one block."""
    joined: list[_Block] = []
    run = 0
    for block in blocks:
        last = joined[-1] if joined else None
        alike = (
            last is not None
            and block.blank_before
            and block.fenced == last.fenced
            and block.num_rows == 1
            and (run > 0 or last.num_rows == 1)
            and len(block.lines[0].rows[0]) == len(last.lines[-1].rows[-1]) > 0
            and block.lines[0].style == last.lines[-1].style
        )
        if alike and last is not None:
            _append(last.lines, block.lines[0])
            run += 1
        else:
            joined.append(block)
            run = 0
    return joined


def _found(block: _Block) -> FoundGrid:
    lines = block.lines
    why = ""
    if len(lines) > 1 and lines[1].kind == "rule":
        lines = _without_head(lines)
    rows: list[list[int]] = []
    num_rows = 0
    for line in lines:
        num_rows += len(line.rows)
        if len(rows) < KEPT:
            rows += [row[:KEPT] for row in line.rows]
        why = why or line.why
    labels = [line.label for line in lines if line.label is not None]
    if labels and labels != list(range(labels[0], labels[0] + len(labels))):
        why = why or "its row labels do not count"
    grid, refused = check_rows(rows[:KEPT], num_rows, why)
    writing: Writing = "fenced" if block.fenced else "rows" if num_rows > 1 else "row"
    return FoundGrid(lines[0].start, lines[-1].end, writing, grid, refused)


def _without_head(lines: list[_Line]) -> list[_Line]:
    """Return the rows of a Markdown table: without a head of column numbers, and then without the row numbers."""
    head, rows = lines[0], lines[2:]
    if head.kind == "head":
        return [
            _Line(line.start, line.end, [row[1:] for row in line.rows], "table", None, line.why) for line in rows
        ] or [head]
    numbers = head.rows[0]
    counts = len(numbers) > 2 and numbers in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return rows if (counts or not numbers) and rows else [head, *rows]
