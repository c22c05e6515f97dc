"""Files of puzzles, with or without answers: CSV as the published datasets, sudoku lines, mazes drawn in text.

question,answer        CSV with a header; `answer` may be absent, or empty in a row; other columns are ignored
53..7....6..195...      a sudoku a line, `.` or `0` for a blank; after a comma or space its answer
#######                a maze of `# SGo`, row by row; an empty line ends it
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.files.json_files import read_bytes
from gridloom.runtime.data.puzzles.tables import MAZE_TOKENS, Tables
from gridloom.specs.puzzles import MazeData, SudokuData

QUESTIONS = ("question", "puzzle", "quizzes", "quiz")
ANSWERS = ("answer", "solution", "solutions")
SUDOKU_SIZES = (4, 6, 9)
MAZE_SIZES = range(5, 61)


class _Puzzle(NamedTuple):
    line: int
    question: str
    answer: str
    """Empty where it is not known."""


def read_puzzle_file(spec: MazeData | SudokuData, path: Path) -> Tables:
    """Read a file as test puzzles; labels of a puzzle without an answer are 0. Raises DataError with file and line."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: byte {error.start} is no UTF-8", "save the file as plain text") from None
    puzzles = list(_rows_of_csv(path, text) if path.suffix == ".csv" else _rows_of_text(spec, path, text))
    if not puzzles:
        raise DataError(f"{path}: no puzzles", f"write one {'a line' if isinstance(spec, SudokuData) else 'a block'}")
    size = _size(spec, path, puzzles[0])
    for puzzle in puzzles:
        for name, cells in (("puzzle", puzzle.question), ("answer", puzzle.answer)):
            if len(cells) != size * size and (cells or name == "puzzle"):
                raise DataError(
                    f"{path}:{puzzle.line}: the {name} has {len(cells)} cells, {size}x{size} has {size * size}",
                    "correct the line, or keep puzzles of one size in a file",
                )
    inputs = np.stack([_tokens(spec, path, size, puzzle.line, puzzle.question) for puzzle in puzzles])
    labels = np.stack([_tokens(spec, path, size, puzzle.line, puzzle.answer) for puzzle in puzzles])
    return {"test": (inputs, labels)}


def puzzle_text(kind: str, tokens: Sequence[int]) -> str:
    """Return tokens as the text of such files, `?` for a token that is no cell; mazes without line breaks."""
    alphabet = MAZE_TOKENS if kind == "maze" else ".123456789"
    return "".join(alphabet[token - 1] if 1 <= token <= len(alphabet) else "?" for token in tokens)


def kind_of_file(path: Path) -> str:
    """Return the kind of a file's puzzles: maze if a cell is drawn as wall, start or goal. Raises DataError."""
    text = read_bytes(path).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()
    drawn = any(mark in line for line in lines for mark in ("##", "S", "G"))
    return "maze" if drawn and not _is_sudoku(lines) else "sudoku"


def _is_sudoku(lines: Sequence[str]) -> bool:
    cells = {4: 16, 6: 36, 9: 81}.values()
    fields = [field for line in lines for field in line.replace(",", " ").split()]
    return any(len(field) in cells and set(field) <= set(".0123456789_") for field in fields)


def _rows_of_csv(path: Path, text: str) -> Iterator[_Puzzle]:
    reader = csv.reader(text.splitlines())
    header = [name.strip().lower() for name in next(reader, [])]
    question = next((header.index(name) for name in QUESTIONS if name in header), None)
    answer = next((header.index(name) for name in ANSWERS if name in header), None)
    if question is None:
        raise DataError(
            f"{path}:1: no column question in the header {','.join(header)[:80]!r}",
            "name the columns in the first line: question,answer",
        )
    for number, row in enumerate(reader, start=2):
        if not any(row):
            continue
        if len(row) <= question:
            raise DataError(f"{path}:{number}: no question in {','.join(row)[:80]!r}", "correct the line")
        yield _Puzzle(number, row[question], row[answer] if answer is not None and len(row) > answer else "")


def _rows_of_text(spec: MazeData | SudokuData, path: Path, text: str) -> Iterator[_Puzzle]:
    block: list[str] = []
    first = 0
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith("# ") and not block and isinstance(spec, SudokuData):
            continue  # a comment
        if isinstance(spec, SudokuData):
            fields = line.replace(",", " ").split()
            if len(fields) in (1, 2) and len(fields[0]) in [side * side for side in SUDOKU_SIZES]:
                yield _Puzzle(number, fields[0], fields[1] if len(fields) == 2 else "")
                continue
            line = line.strip()
        if line and not (isinstance(spec, MazeData) and not line.strip() and not block):
            first = first if block else number
            block.append(line)
            if len(block) == len(block[0]) and len(set(map(len, block))) == 1:
                yield _Puzzle(first, "".join(block), "")
                block = []
            continue
        if block:
            if isinstance(spec, MazeData) and len(block) == 1:
                yield _Puzzle(first, block[0], "")  # a maze in one line
            else:
                sides = ", ".join(str(len(row)) for row in block[:8])
                raise DataError(
                    f"{path}:{first}: {len(block)} rows of {sides} cells are no {spec.kind}",
                    "draw a square, all rows of one length, an empty line between puzzles",
                )
            block = []


def _size(spec: MazeData | SudokuData, path: Path, puzzle: _Puzzle) -> int:
    size = math.isqrt(len(puzzle.question))
    sizes: Sequence[int] = SUDOKU_SIZES if isinstance(spec, SudokuData) else MAZE_SIZES
    if size * size != len(puzzle.question) or size not in sizes:
        known = "4x4, 6x6 or 9x9" if isinstance(spec, SudokuData) else "5x5 to 60x60"
        raise DataError(
            f"{path}:{puzzle.line}: {len(puzzle.question)} cells are no {spec.kind}", f"a {spec.kind} is {known}"
        )
    return size


def _tokens(spec: MazeData | SudokuData, path: Path, size: int, line: int, cells: str) -> NDArray[np.uint8]:
    if not cells:
        return np.zeros(size * size, dtype=np.uint8)
    sudoku = isinstance(spec, SudokuData)
    alphabet = "0123456789"[: size + 1] if sudoku else MAZE_TOKENS
    table = {mark: number for number, mark in enumerate(alphabet, start=1)}
    table |= {".": 1, "_": 1} if sudoku else {}
    wrong = next((place for place, mark in enumerate(cells) if mark not in table), None)
    if wrong is not None:
        known = f"1 to {size}, and . or 0 for a blank" if sudoku else f"the characters of {MAZE_TOKENS!r}"
        raise DataError(f"{path}:{line}: cell {wrong + 1} is {cells[wrong]!r}", f"use {known}")
    return np.array([table[mark] for mark in cells], dtype=np.uint8)
