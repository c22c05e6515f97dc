"""Grids that a text writes in brackets: JSON, Python lists and tuples, numpy arrays, Matlab; on one line or many.

One pass over the text with a stack of open brackets. A bracket that holds words is prose; one that holds numbers alone
is a row, one that holds rows alone is a grid, one that holds grids alone is a list of grids.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gridloom.runtime.data.arc.found_grid import KEPT, FoundGrid, check_rows, colour

TOKEN = re.compile(
    r"(?P<open>[\[(])|(?P<close>[\])])|(?P<number>[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?(?![0-9A-Za-z_]))"
    r"|(?P<string>\"[0-9][0-9 ,]{0,125}\"|'[0-9][0-9 ,]{0,125}')|(?P<space>[\s,]+|\#[^\n]*|//[^\n]*)"
    r"|(?P<row_end>;)|(?P<word>[A-Za-z_]+|.)",
    re.DOTALL,
)
MAX_DEPTH = 16
"""Depth of brackets at which a text is taken for no writing of a grid, and the open brackets are dropped."""


@dataclass(slots=True)
class _Row:
    cells: list[int]
    why: str
    digits: str
    """The only number of the row as written, where it has two digits or more; else empty."""


@dataclass(slots=True)
class _Bracket:
    start: int
    sign: str
    cells: list[int] = field(default_factory=list)
    digits: str = ""
    num_cells: int = 0
    rows: list[_Row] = field(default_factory=list)
    num_rows: int = 0
    num_lists: int = 0
    """Number of row children written in square brackets or strings."""
    grids: list[int] = field(default_factory=list)
    """Indices of the grids that it holds."""
    words: bool = False
    why: str = ""
    has_row_ends: bool = False
    """Whether semicolons end its rows, as in Matlab's `[0 0 5; 0 5 0]`."""

    def end_row(self) -> None:
        """Make a row of the cells since the last semicolon."""
        self.has_row_ends = True
        self.num_lists += 1
        self.add_row(_Row(self.cells, self.why, self.digits))
        self.cells, self.digits, self.num_cells, self.why = [], "", 0, ""

    def add_row(self, row: _Row) -> None:
        self.num_rows += 1
        if self.num_rows <= KEPT:
            self.rows.append(row)


@dataclass(slots=True)
class Bracketed:
    """Result of `find`."""

    found: list[FoundGrid] = field(default_factory=list)
    """Grids and refused grids, in the order of their ends."""
    lists: list[list[int]] = field(default_factory=list)
    """Indices of the grids of each list of several grids."""


def find(text: str) -> Bracketed:
    """Return all grids in brackets. Time and memory are linear in the text's length."""
    result = Bracketed()
    stack: list[_Bracket] = []
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "open":
            if len(stack) >= MAX_DEPTH:
                stack.clear()
            stack.append(_Bracket(token.start(), token.group()))
        elif not stack:
            continue
        elif kind == "close":
            if (stack[-1].sign == "[") != (token.group() == "]"):
                stack.clear()
                continue
            _close(stack.pop(), stack[-1] if stack else None, token.end(), result)
        elif kind == "number":
            _add_number(stack[-1], token.group())
        elif kind == "string":
            _add_string(stack[-1], token.group())
        elif kind == "row_end" and stack[-1].sign == "[" and stack[-1].num_cells and not stack[-1].words:
            stack[-1].end_row()
        elif kind == "space":
            if token.group().count(",") > 1:
                stack[-1].why = stack[-1].why or "a cell is missing between two commas"
        else:
            _add_word(stack[-1], token.start(), result)
    _end(stack, len(text), result)
    return result


def _add_number(top: _Bracket, number: str) -> None:
    top.num_cells += 1
    if top.num_cells == 1 and len(number) > 1 and number.isdigit():
        top.digits = number  # 12, or a row 0 1 2 without separators
        return
    if top.digits:
        top.why, top.digits = top.why or colour(top.digits)[1], ""
    value, why = colour(number)
    top.why = top.why or why
    if top.num_cells <= KEPT:
        top.cells.append(value)


def _add_string(top: _Bracket, string: str) -> None:
    digits = re.sub(r"[ ,]+", "", string[1:-1])
    if len(digits) == 1:
        _add_number(top, digits)
        return
    several = any(len(part) > 1 for part in re.split(r"[ ,]+", string[1:-1])) and digits != string[1:-1]
    why = f"{string[:14]} is no row of colours" if several else ""
    top.num_lists += 1
    top.add_row(_Row([int(digit) for digit in digits[:KEPT]], why, ""))


def _add_word(top: _Bracket, at: int, result: Bracketed) -> None:
    if not top.words and top.rows and not top.has_row_ends:  # a semicolon may also stand in prose
        result.found.append(FoundGrid(top.start, at, "brackets", [], "words stand among the rows"))
    top.words = True


def _close(bracket: _Bracket, parent: _Bracket | None, end: int, result: Bracketed) -> None:
    """Add what a closed bracket is to its parent: a row, a grid, or a list of grids."""
    if bracket.has_row_ends and bracket.num_cells:
        bracket.end_row()
    if bracket.words:
        if parent is not None and not parent.words:
            parent.why = parent.why or "a row holds something other than colours"
        return
    kinds = (bracket.num_cells > 0, bracket.num_rows > 0, bool(bracket.grids))
    if kinds == (True, False, False):
        if parent is not None:
            parent.num_lists += bracket.sign == "["
            parent.add_row(_Row(bracket.cells, bracket.why, bracket.digits))
    elif kinds == (False, False, True):
        if len(bracket.grids) > 1:
            result.lists.append(bracket.grids)
        if parent is not None:
            parent.grids += bracket.grids
    elif bracket.num_rows:
        why = bracket.why or ("rows and single cells are mixed" if kinds != (False, True, False) else "")
        if parent is not None:
            parent.grids.append(len(result.found))
        result.found.append(_grid(bracket, end, why))


def _grid(bracket: _Bracket, end: int, why: str) -> FoundGrid:
    rows = bracket.rows
    digits = [row.digits for row in rows]
    if all(digits) and any(number.startswith("0") for number in digits):  # [005], [050]: no separators
        cells = [[int(digit) for digit in number[:KEPT]] for number in digits]
    else:
        cells = [row.cells for row in rows]
        why = why or next((row.why for row in rows if row.why), "")
        why = why or next((f"{number[:12]} is not a colour 0-9" for number in digits if number), "")
    grid, refused = check_rows(cells, bracket.num_rows, why)
    squares = bracket.sign == "[" and bracket.num_lists == bracket.num_rows
    return FoundGrid(bracket.start, end, "brackets" if squares else "tuples", grid, refused)


def _end(stack: list[_Bracket], end: int, result: Bracketed) -> None:
    """Add the grid that the text's end cuts off: the outermost open bracket that holds rows and no words."""
    first = len(stack)
    while first > 0 and not stack[first - 1].words:
        first -= 1
    cut = stack[first:]
    if cut and (len(cut) > 1 or cut[0].num_rows or cut[0].num_cells or cut[0].grids):
        if cut[0].grids and len(cut) == 1:
            return  # its grids are complete
        result.found.append(FoundGrid(cut[0].start, end, "brackets", [], "the text ends within the grid", cut=True))
