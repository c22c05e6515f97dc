"""Descriptions of the functions, and pictures of what each does to a small grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gridloom.runtime.data.tasks import Grid, Pair, Task
from gridloom.solvers.search.functions import FUNCTIONS, NUMBER, Function
from gridloom.solvers.search.programs import Layer, Program, Side, parse_expression
from gridloom.solvers.search.running import image_of

DESCRIPTIONS = {
    "only": "keeps the cells of one colour",
    "drop": "erases the cells of one colour",
    "recolour": "gives every cell other than background one colour",
    "negative": "exchanges background and shape; the new shape has the least colour of the image, or 1",
    "crop": "cuts out the box around all cells other than background",
    "place": "one cell of the main colour at the image's place",
    "blank_at_origin": "background of the image's size, at the origin",
    "blank": "background of the image's size, at its place",
    "hull": "the whole image in its main colour",
    "hull_at_origin": "the whole image in its main colour, at the origin",
    "origin": "moves the image to the origin",
    "silhouette": "fills the shape and what it encloses with the main colour",
    "enclosed": "what the shape encloses, in the main colour",
    "outer": "keeps the cells that touch the outside, on eight sides",
    "inner": "keeps the cells that do not touch the outside",
    "centre": "the cell, or the two or four cells, in the middle",
    "main_colour": "one cell of the main colour, at the origin",
    "turn": "turns by 90, 180, 270 degrees counter-clockwise (1-3), reflects left-right (4), up-down (5), on the main "
    "diagonal (6) or on the other (7)",
    "turn_over": "reflects across the axis that the shape lies farther from",
    "count": "a square, row or column as long as the number of cells, colours or parts",
    "rays": "draws every cell on to the border, over background and older rays: right (0), left, down, up, across, "
    "up-down, both, then the diagonals (7-10), their pairs, all diagonals, all directions (14)",
    "halo": "the background cells beside the shape, on 4 or 8 sides, in colour 1",
    "frame": "a frame of one cell around the image, in colour 1 or the main colour",
    "squeeze": "deletes rows and columns that are all background",
    "unscale": "deletes rows and columns that repeat the one before",
    "link": "the lines between successive cells of one colour: in rows (0), columns (1), both (2), diagonals (3)",
    "spread": "lets colours grow into the background; 'others' leaves the main colour as it is",
    "half": "the left, right, upper or lower half, without a middle line",
    "settle": "lets every cell fall by itself: right, left, down, up",
    "symmetric": "completes the background from reflections: left-right, up-down, both, the diagonals too",
    "periodic": "fills the background by the smallest repetition: rows and columns (0), diagonals (1)",
    "box": "fills the box around all cells other than background with the main colour",
    "blocks": "keeps the cells that lie in a block of 2 x 2 cells other than background",
    "reach": "draws lines from cells of other colours to the next cell of the main colour in row and column",
    "spin": "sets a square image and its three turns around a centre, itself upper left",
    "unit": "cuts out the smallest tile that repeats over the whole image, background included",
    "embed": "puts the image at its place into a grid of that size",
    "wrap": "writes a long line into a grid of that size, as text wraps",
    "stretch": "scales the image to that size",
    "tile": "covers that size with copies of the image",
    "tile_apart": "covers that size with copies, one cell apart",
    "mirror": "covers that size with copies, every other one mirrored",
    "mirror_apart": "covers that size with copies one cell apart, every other one mirrored",
    "cut": "splits along the colour that cuts the image best",
    "colours": "splits into colours, each of the image's size",
    "objects": "splits into objects connected on 4 or 8 sides, of one colour or 'any'",
    "rows": "splits into rows",
    "columns": "splits into columns",
    "marked": "splits into the rectangles with four marked corners",
    "regions": "splits the background into parts connected on four sides, in colour 1",
    "fall": "splits into objects, and lets each fall: right, left, down, up",
    "pick": "the first image with the largest measure",
    "pick_unique": "the one image with a colour that no other has",
    "layer": "lays the images over each other at their places, those with fewest cells on top",
    "line_up": "sets the images beside each other (0), below each other (1), by area; or by their places (2)",
    "overlap": "combines images of one size: where all have a cell (0), any (1), exactly one (2), none (3)",
    "keep": "the images with the largest measure",
    "keep_others": "all other images",
    "move": "moves the image by columns and rows",
}
"""Description of each function without its arguments."""

EXAMPLES = {
    "marked": "11000011 10000001 00200000 00030000 10000001 11000011",
    "periodic": "12121 21210 12020 20012 12121",
    "symmetric": "00030 02004 10000 02004 00030",
    "wrap": "1234567",
    "squeeze": "10020 00000 03004",
    "unscale": "11223 11223 44556",
    "overlap": "1105022 0105202",
    "cut": "1105022 0105202",
    "pick_unique": "1100100 0000000 0220011",
    "blocks": "0110003 0110020 0000022",
    "reach": "0200000 0000000 0111003 0111000 0000000",
    "spin": "120 020 003",
    "unit": "1201201 0300300 1201201",
    "regions": "000300 222322 003000 003002",
    "outer": "00000 01110 01210 01110",
    "inner": "00000 01110 01210 01110",
    "origin": "0002 0020",
    "place": "0002 0020",
    "main_colour": "1122 0222",
}
"""Grids of the pictures of functions that the common grid does not show, rows separated by spaces."""
COMMON = "0000000 0222000 0202030 0222000 0000003"
OUTPUT_SIZE = (4, 6)
"""Size of the output in the pictures."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Grid and what an expression makes of it."""

    expression: str
    before: Grid
    after: Grid | None
    """None where the function is undefined."""


def describe(function: Function) -> str:
    """Return the description of a function."""
    return DESCRIPTIONS[function.kernel]


def picture_of(function: Function) -> Picture:
    """Return the picture of a function: on its grid, or on that grid's objects, its list laid over each other."""
    text = EXAMPLES.get(function.kernel, COMMON)
    before = np.array([[int(cell) for cell in row] for row in text.split()], dtype=np.uint8)
    source = "input"
    if function.takes == "list":
        source += " > cut" if function.kernel == "overlap" else " > objects 4"
    joined = {"list": " > layer", "image": ""}[function.gives]
    expression = f"{source} > {function.name}{joined}"
    task = Task("picture", "picture", (Pair(before, np.zeros(OUTPUT_SIZE, dtype=np.uint8)),), (before,))
    image = parse_expression(expression)
    side = Side(OUTPUT_SIZE[0]), Side(OUTPUT_SIZE[1])
    return Picture(expression, before, image_of(Program(*side, (Layer(2, image),)), image, task))


def pictures() -> list[tuple[Function, Picture]]:
    """Return a picture of each function, of several arguments the first."""
    first = {function.kernel: function for function in reversed(FUNCTIONS)}
    first |= {name: FUNCTIONS[NUMBER[f"{name} 2"]] for name in ("only", "drop")}
    return [(function, picture_of(function)) for function in FUNCTIONS if first[function.kernel] is function]


def page() -> str:
    """Return the list of the functions for docs/programs.md: names, type, description and a picture of each."""
    names: dict[str, list[str]] = {}
    for function in FUNCTIONS:
        names.setdefault(function.kernel, []).append(function.name)
    parts = []
    for function, picture in pictures():
        known = names[function.kernel]
        shown = ", ".join(f"`{name}`" for name in known) if len(known) < 9 else f"`{known[0]}` to `{known[-1]}`"
        head = f"{shown} ({function.takes} to {function.gives}): {describe(function)}."
        parts.append(f"{head}\n\n{_drawn(picture)}\n")
    return "\n".join(parts)


def _drawn(picture: Picture) -> str:
    after = ["undefined"] if picture.after is None else _lines(picture.after) or ["nothing"]
    before = _lines(picture.before)
    width = max(len(before[0]), len("input"))
    lines = [f"    {'input':<{width}}   {picture.expression}"]
    for number in range(max(len(before), len(after))):
        left = before[number] if number < len(before) else ""
        right = after[number] if number < len(after) else ""
        lines.append(f"    {left:<{width}}   {right}".rstrip())
    return "\n".join(lines)


def _lines(grid: Grid) -> list[str]:
    return ["".join("." if cell == 0 else str(cell) for cell in row) for row in grid.tolist()]
