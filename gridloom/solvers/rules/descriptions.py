"""Descriptions of the features of cells, and pictures of each on a small grid."""

from __future__ import annotations

import numpy as np

from gridloom.runtime.data.tasks import Grid
from gridloom.solvers.rules.features import NONE, PARTS, features_of
from gridloom.solvers.rules.parts_of_grids import Numbers

FEATURES = {
    "own": "colour of the cell",
    "beside": "colour of the next cell in one of eight directions",
    "second": "colour of the next cell but one",
    "near4": "number of neighbours on four sides that are not background",
    "near8": "the same on eight sides",
    "alike4": "number of neighbours on four sides that have the cell's colour",
    "alike8": "the same on eight sides",
    "ray": "first colour other than background in one of eight directions, from the next cell on",
    "distance": "steps to that colour, 0 where there is none",
    "between": "colour that is met in two opposite directions: in the row (0), the column (1), the diagonals (2, 3)",
    "row": "number of the row, from 0",
    "row_end": "number of the row from below",
    "column": "number of the column, from 0",
    "column_end": "number of the column from the right",
    "border": "steps to the nearest border",
    "row_mod": "row modulo 2 or 3",
    "column_mod": "column modulo 2 or 3",
    "row_end_mod": "row from below, modulo 2 or 3",
    "column_end_mod": "column from the right, modulo 2 or 3",
    "sum_mod": "row plus column, modulo 2 or 3",
    "diagonal": "row less column",
    "antidiagonal": "row plus column, less the last column",
    "mirror": "colour at the place reflected across, down, both ways, or on the diagonal of a square grid",
    "row_colour": "most frequent colour of the row other than background",
    "row_filled": "cells of the row that are not background",
    "row_empty": "cells of the row that are background",
    "row_kinds": "number of colours of the row",
    "row_even": "1 where the row has one colour alone",
    "row_most": "1 where no row has more cells other than background",
    "row_own": "cells of the row that have the cell's colour",
    "column_colour": "most frequent colour of the column other than background",
    "column_filled": "cells of the column that are not background",
    "column_empty": "cells of the column that are background",
    "column_kinds": "number of colours of the column",
    "column_even": "1 where the column has one colour alone",
    "column_most": "1 where no column has more cells other than background",
    "column_own": "cells of the column that have the cell's colour",
    "edge": "colour of the first or last cell of the row or column",
    "colour_rank": "rank of the cell's colour by number of cells, 1 for the most frequent, 0 for background",
    "colour_rank_up": "the same from the rarest",
    "colour_cells": "number of cells of that colour in the grid",
    "grid": "colour of the grid: the most frequent, second or least one, that of the largest or smallest part; "
    "`grid kinds` is the number of colours",
    "object main": "most frequent colour of the cell's object",
    "object rare": "least frequent colour of the cell's object",
    "boxes": "number of objects in whose box the cell lies",
    "object mirror": "colour at the place reflected in the box of the object",
    "around": "most frequent other colour beside the cell's part",
    "around_kinds": "number of such colours",
    "enclosed": "1 for background that does not reach the border",
}  # fmt: skip
"""Description of each family of features."""

OF_PARTS = {
    "cells": "number of cells",
    "rank": "rank by number of cells, 0 for the largest",
    "rank_up": "rank from the smallest",
    "height": "rows of its box",
    "width": "columns of its box",
    "longer": "1 where it is higher than wide, -1 where it is wider",
    "solid": "1 for a full rectangle",
    "square": "1 where its box is square",
    "holes": "number of its holes",
    "hole_cells": "cells of its holes",
    "touches": "1 where it touches the border",
    "mirrored_across": "1 where its left and right halves mirror each other",
    "mirrored_down": "1 where its upper and lower halves do",
    "symmetric": "1 for either, or a reflection on the diagonal",
    "copies": "number of parts of its shape",
    "same_size": "number of parts of so many cells",
    "same_colour": "number of parts of its colour",
    "colours": "number of its colours",
    "from_top": "rank from the top",
    "from_left": "rank from the left",
    "number": "number of parts that are not background",
    "in_up": "rows from the top of its box to the cell",
    "in_down": "rows to the bottom of its box",
    "in_left": "columns from the left of its box",
    "in_right": "columns to the right of its box",
    "in_ring": "steps to the nearest side of its box",
    "in_sum_mod": "row plus column in its box, modulo 2",
}  # fmt: skip
"""Description of each measure of a part."""
GRID = "0000000 0222000 0202030 0222000 0000003"
SHOWN = {"beside": "beside right", "grid": "grid most", "object mirror": "object mirror_across"}
"""Feature that a picture shows of a family, where it is not the first."""


def family_of(name: str) -> str:
    """Return the family of a feature: the key of its description."""
    if name in FEATURES:
        return name
    first, _, rest = name.partition(" ")
    if first in PARTS:
        return "object mirror" if rest.startswith("mirror_") else f"part {rest}"
    return first


def describe(name: str) -> str:
    """Return the description of a feature."""
    family = family_of(name)
    return OF_PARTS[family.removeprefix("part ")] if family.startswith("part ") else FEATURES[family]


def page() -> str:
    """Return the list of the features for docs/rules.md: names, description and a picture of each."""
    grid = np.array([[int(cell) for cell in row] for row in GRID.split()], dtype=np.uint8)
    features = features_of(grid)
    families: dict[str, list[str]] = {}
    for name in features:
        families.setdefault(family_of(name), []).append(name)
    parts = []
    for family, names in families.items():
        shown = SHOWN.get(family, names[0])
        listed = ", ".join(f"`{name}`" for name in names)
        parts.append(f"{listed}: {describe(names[0])}.\n\n{_drawn(grid, shown, features[shown])}\n")
    return "\n".join(parts)


def _drawn(grid: Grid, name: str, values: Numbers) -> str:
    before = ["".join("." if cell == 0 else str(cell) for cell in row) for row in grid.tolist()]
    words = [["-" if cell == NONE else str(cell) for cell in row] for row in values.tolist()]
    width = max(len(word) for row in words for word in row)
    after = [" ".join(f"{word:>{width}}" for word in row) for row in words]
    lines = [f"    {'input':<7}   {name}"]
    lines += [f"    {left:<7}   {right}".rstrip() for left, right in zip(before, after, strict=True)]
    return "\n".join(lines)
