"""Conditions of cells that rules are learnt from, and the colours that rules can give, over the cells of all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.solvers.rules.features import NONE, is_colour
from gridloom.solvers.rules.language import Condition, Term

MOST_VALUES = 12
"""Values of a number feature that are tested for equality; more are compared by order alone."""
IMAGE_COST = 6
"""Cost of a condition of an image, beside the image's own."""


@dataclass(slots=True)
class Table:
    """Conditions of one task, and colours that a rule can give, over the cells of all pairs one after the other."""

    conditions: list[Condition]
    costs: NDArray[np.int64]
    holds: NDArray[np.bool_]
    """[conditions, cells]."""
    values: list[Term | int]
    """Colours that a rule can give: terms, or one colour."""
    value_costs: NDArray[np.int64]
    shown: NDArray[np.int16]
    """[values, cells]: the colour that each gives at each cell."""


SIMPLE = {"own": 0, "around": 3, "enclosed": 2}
"""Costs of the plainest features; `FAMILY` has those of the others by their first word."""
FAMILY = {
    "beside": 4, "second": 7, "near4": 4, "near8": 4, "alike4": 4, "alike8": 4, "ray": 4, "distance": 8, "between": 3,
    "row": 6, "column": 6, "row_end": 7, "column_end": 7, "border": 4, "diagonal": 5, "antidiagonal": 5, "mirror": 5,
    "edge": 5, "grid": 7, "boxes": 4, "part4": 4, "part8": 5, "object": 4, "around_kinds": 6,
}  # fmt: skip
OTHER_FAMILY = 5
COSTLY = {"copies": 1, "same_size": 2, "same_colour": 1, "number": 4, "from_top": 2, "from_left": 2, "longer": 2}
"""Costs of measures beside their family's."""


def feature_cost(name: str) -> int:
    """Return the cost of a feature, in tenths of a function of the search."""
    if name in SIMPLE:
        return SIMPLE[name]
    family, _, rest = name.partition(" ")
    return FAMILY.get(family, OTHER_FAMILY) + COSTLY.get(rest, 0)


def make_table(
    features: Mapping[str, NDArray[np.int16]],
    rows: NDArray[np.uint8],
    row_costs: NDArray[np.int64],
    demo_cells: int,
    out_colours: Sequence[int],
) -> Table:
    """Return the conditions that hold for some cells of the demonstrations and not for all, each set of cells once.

    Args:
        features: int16 [cells] by name.
        rows: uint8 [images, cells]: images of the search, of the outputs' size.
        demo_cells: number of the demonstrations' cells.
        out_colours: colours of the outputs.
    """
    conditions: list[Condition] = []
    costs: list[int] = []
    columns: list[NDArray[np.bool_]] = []
    values: list[Term | int] = list(out_colours)
    value_costs = [2] * len(values)
    total = features["own"].size
    shown = [np.full(total, colour, dtype=np.int16) for colour in out_colours]
    seen: set[bytes] = set()

    def add(term: Term, sign: str, value: int, cost: int, holds: NDArray[np.bool_]) -> None:
        number = int(holds[:demo_cells].sum())
        if number == 0 or number == demo_cells:
            return
        key = np.packbits(holds).tobytes()
        if key in seen:
            return
        seen.add(key)
        conditions.append(Condition(term, sign, value))
        costs.append(cost)
        columns.append(holds)

    order = sorted(features, key=feature_cost)
    for name in order:
        cost = feature_cost(name)
        column = features[name]
        colour = is_colour(name)
        if colour:
            values.append(Term(name))
            value_costs.append(cost + 2)
            shown.append(column)
        present = np.unique(column[:demo_cells])
        if len(present) < 2:
            continue
        term = Term(name)
        if colour or len(present) <= MOST_VALUES:
            for value in present.tolist():
                add(term, "=", value, cost + 2, column == value)
                if len(present) > 2:
                    add(term, "!=", value, cost + 3 + (value not in (0, NONE)), column != value)
        if not colour and len(present) > 2:
            low, high = present[0], present[-1]
            for value in present[1:][:MOST_VALUES].tolist():
                add(term, ">=", value, cost + 3 + min(4, value - int(low)), column >= value)
            for value in present[:-1][-MOST_VALUES:].tolist():
                add(term, "<=", value, cost + 3 + min(4, int(high) - value), column <= value)
            add(term, "=", int(high), cost + 4, column == high)
            add(term, "=", int(low), cost + 4, column == low)
    for number, row in enumerate(rows):
        cost = IMAGE_COST + int(row_costs[number])
        term = Term(image=number)
        values.append(term)
        value_costs.append(cost)
        shown.append(row.astype(np.int16))
        present = np.unique(row[:demo_cells])
        if len(present) < 2:
            continue
        add(term, "!=", 0, cost, row != 0)
        add(term, "=", 0, cost, row == 0)
        if len(present) > 2:
            for value in present.tolist():
                add(term, "=", value, cost + 3, row == value)
    holds = np.array(columns, dtype=np.bool_).reshape(len(columns), total)
    return Table(
        conditions,
        np.array(costs, dtype=np.int64),
        holds,
        values,
        np.array(value_costs, dtype=np.int64),
        np.stack(shown),
    )
