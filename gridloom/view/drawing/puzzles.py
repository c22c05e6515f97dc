"""Mazes and sudokus from their text: values for the script that draws them, and the cells that break the rules."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.data.puzzles.tables import box_of

SUDOKU_LETTERS = "? 123456789"
"""Character that the script writes for each value of a sudoku: no cell, blank, digits."""
MAZE_COLOURS = {"#": 18, " ": 10, "S": 3, "G": 2, "o": 1}
"""Number of the script's palette for each character of a maze: walls grey, S green, G red, the path blue."""
BOXED = (4, 6, 9)
"""Sides of sudokus."""
PAD_COLOUR = 6
"""Colour of a token that is no cell."""


@dataclass(frozen=True, slots=True)
class PuzzleLook:
    """What a page needs to draw an answer to a puzzle."""

    question: list[list[int]]
    answer: list[list[int]]
    marks: list[int]
    """Numbers of the cells, row by row, that break the rules or change what the question gave."""
    letters: str
    """Character of each value; empty for mazes, whose values are colours."""
    box: str
    """Rows and columns of a sudoku's boxes; empty for mazes."""


def puzzle_look(kind: str, size: int, question: str, answer: str) -> PuzzleLook | None:
    """Return the look of an answer, or None for one that is no maze or sudoku of that size.

    Args:
        question: size * size characters, as in the ledger's puzzle_predictions.
        answer: as many characters.
    """
    is_sudoku = kind == "sudoku"
    if not len(question) == len(answer) == size * size or size == 0 or (is_sudoku and size not in BOXED):
        return None
    return PuzzleLook(
        _rows([value_of(kind, cell) for cell in question], size),
        _rows([value_of(kind, cell) for cell in answer], size),
        broken_cells(kind, size, question, answer),
        SUDOKU_LETTERS if is_sudoku else "",
        "{} {}".format(*box_of(size)) if is_sudoku else "",
    )


def value_of(kind: str, cell: str) -> int:
    """Return the value that the script draws for a character of a puzzle."""
    if kind == "sudoku":
        return max(0, SUDOKU_LETTERS.find(" " if cell == "." else cell))
    return MAZE_COLOURS.get(cell, PAD_COLOUR)


def broken_cells(kind: str, size: int, question: str, answer: str) -> list[int]:
    """Return the numbers of the cells that show an answer to be wrong, without knowing the right one.

    Of a sudoku: a clue that was changed, no digit, or a digit twice in a row, a column or a box. Of a maze: a wall, S
    or G that was changed, or a token that is no cell; whether the marked path leads from S to G is not judged.
    """
    if kind == "sudoku":
        height, width = box_of(size)
        units: dict[tuple[str, int, str], list[int]] = {}
        for place, digit in enumerate(answer):
            row, column = divmod(place, size)
            box = row // height * size + column // width
            for unit in (("row", row, digit), ("column", column, digit), ("box", box, digit)):
                units.setdefault(unit, []).append(place)
        twice = {place for places in units.values() if len(places) > 1 for place in places}
        changed = {place for place, (given, cell) in enumerate(zip(question, answer, strict=True)) if given != cell}
        return [
            place
            for place, cell in enumerate(answer)
            if place in twice or not cell.isdigit() or (question[place] != "." and place in changed)
        ]
    return [
        place
        for place, (given, cell) in enumerate(zip(question, answer, strict=True))
        if given != cell and (given, cell) != (" ", "o")
    ]


def _rows(values: list[int], size: int) -> list[list[int]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
