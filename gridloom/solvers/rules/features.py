"""Features of the cells of a grid: colours and numbers, each int16 [rows, columns]."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.tasks import Grid
from gridloom.solvers.rules.parts_of_grids import MEASURES, Numbers, Part, label_parts, measures, parts_of

NONE = 10
"""Colour where there is none: outside the grid, or nothing met."""
DIRECTIONS = {
    "right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0),
    "down_right": (1, 1), "up_left": (-1, -1), "down_left": (1, -1), "up_right": (-1, 1),
}  # fmt: skip
"""Steps of the eight directions: rows, columns."""
OPPOSITE = (("right", "left"), ("down", "up"), ("down_right", "up_left"), ("down_left", "up_right"))
PARTS = {"part4": (4, False), "part8": (8, False), "object": (8, True)}
"""Kinds of connected parts: sides, and whether of any colour."""
Named = Iterator[tuple[str, Numbers]]


def shifted(grid: NDArray[np.int16], down: int, right: int, outside: int) -> NDArray[np.int16]:
    """Return, at each cell, the value `down` rows below and `right` columns to the right; `outside` beyond the grid."""
    h, w = grid.shape
    moved = np.full((h, w), outside, dtype=np.int16)
    r0, r1, c0, c1 = max(0, -down), min(h, h - down), max(0, -right), min(w, w - right)
    if r0 < r1 and c0 < c1:
        moved[r0:r1, c0:c1] = grid[r0 + down : r1 + down, c0 + right : c1 + right]
    return moved


def _neighbours(cells: Numbers) -> Named:
    around = {name: shifted(cells, *step, NONE) for name, step in DIRECTIONS.items()}
    for name, values in around.items():
        yield f"beside {name}", values
    for name in ("right", "left", "down", "up"):
        r, c = DIRECTIONS[name]
        yield f"second {name}", shifted(cells, 2 * r, 2 * c, NONE)
    eight = np.stack(list(around.values()))
    filled = (eight != 0) & (eight != NONE)
    yield "near4", filled[:4].sum(axis=0).astype(np.int16)
    yield "near8", filled.sum(axis=0).astype(np.int16)
    same = eight == cells
    yield "alike4", same[:4].sum(axis=0).astype(np.int16)
    yield "alike8", same.sum(axis=0).astype(np.int16)


def _rays(cells: Numbers) -> Named:
    met: dict[str, Numbers] = {}
    for name, (down, right) in DIRECTIONS.items():
        colour = np.full(cells.shape, NONE, dtype=np.int16)
        distance = np.zeros(cells.shape, dtype=np.int16)
        beside = shifted(cells, down, right, NONE)
        for step in range(1, max(cells.shape)):
            new = (colour == NONE) & (beside != 0) & (beside != NONE)
            colour[new], distance[new] = beside[new], step
            beside = shifted(beside, down, right, NONE)
        met[name] = colour
        yield f"ray {name}", colour
        yield f"distance {name}", distance
    for number, (one, other) in enumerate(OPPOSITE):
        yield f"between {number}", np.where(met[one] == met[other], met[one], NONE).astype(np.int16)


def _places(cells: Numbers) -> Named:
    h, w = cells.shape
    r, c = np.indices((h, w)).astype(np.int16)
    yield "row", r
    yield "row_end", (h - 1 - r).astype(np.int16)
    yield "column", c
    yield "column_end", (w - 1 - c).astype(np.int16)
    yield "border", np.minimum(np.minimum(r, h - 1 - r), np.minimum(c, w - 1 - c)).astype(np.int16)
    for n in (2, 3):
        yield f"row_mod {n}", (r % n).astype(np.int16)
        yield f"column_mod {n}", (c % n).astype(np.int16)
        yield f"row_end_mod {n}", ((h - 1 - r) % n).astype(np.int16)
        yield f"column_end_mod {n}", ((w - 1 - c) % n).astype(np.int16)
        yield f"sum_mod {n}", ((r + c) % n).astype(np.int16)
    yield "diagonal", (r - c).astype(np.int16)
    yield "antidiagonal", (r + c - w + 1).astype(np.int16)


def _reflections(cells: Numbers) -> Named:
    yield "mirror across", cells[:, ::-1]
    yield "mirror down", cells[::-1]
    yield "mirror both", cells[::-1, ::-1]
    square = cells.shape[0] == cells.shape[1]
    yield "mirror diagonal", cells.T if square else np.full(cells.shape, NONE, dtype=np.int16)


def _lines(cells: Numbers) -> Named:
    h, w = cells.shape
    counts = np.stack([(cells == colour).astype(np.int16) for colour in range(10)])
    for name, axis, length in (("row", 2, w), ("column", 1, h)):
        per = counts.sum(axis=axis)  # [10, lines]
        filled = per[1:].sum(axis=0)
        own = per.max(axis=0)
        main = np.where(filled > 0, per[1:].argmax(axis=0) + 1, NONE)
        kinds = (per[1:] > 0).sum(axis=0)
        lines = {
            f"{name}_colour": main,
            f"{name}_filled": filled,
            f"{name}_empty": length - filled,
            f"{name}_kinds": kinds,
            f"{name}_even": own == length,
            f"{name}_most": filled == filled.max(),
        }
        for key, values in lines.items():
            across = np.asarray(values)[:, None] if name == "row" else np.asarray(values)[None, :]
            yield key, np.broadcast_to(across, (h, w)).astype(np.int16)
        own_count = np.take_along_axis(per, cells.astype(np.int64) if name == "column" else cells.T.astype(np.int64), 0)
        yield f"{name}_own", (own_count if name == "column" else own_count.T).astype(np.int16)
    yield "edge left", np.broadcast_to(cells[:, :1], (h, w))
    yield "edge right", np.broadcast_to(cells[:, -1:], (h, w))
    yield "edge up", np.broadcast_to(cells[:1], (h, w))
    yield "edge down", np.broadcast_to(cells[-1:], (h, w))


def _colours(cells: Numbers) -> Named:
    totals = np.bincount(cells.ravel(), minlength=10)[:10]
    order = sorted((c for c in range(1, 10) if totals[c]), key=lambda c: (-totals[c], c))
    ranks = np.zeros(10, dtype=np.int16)
    for rank, colour in enumerate(order):
        ranks[colour] = rank + 1
    last = np.where(ranks > 0, len(order) + 1 - ranks, 0).astype(np.int16)
    yield "colour_rank", ranks[cells]
    yield "colour_rank_up", last[cells]
    yield "colour_cells", totals[cells].astype(np.int16)
    for name, colour in (("most", order[0] if order else NONE), ("least", order[-1] if order else NONE)):
        yield f"grid {name}", np.full(cells.shape, colour, dtype=np.int16)
    second = order[1] if len(order) > 1 else NONE
    yield "grid second", np.full(cells.shape, second, dtype=np.int16)
    yield "grid kinds", np.full(cells.shape, len(order), dtype=np.int16)


def _part_features(grid: Grid, kind: str) -> Named:
    h, w = grid.shape
    labels = np.empty((h, w), dtype=np.int32)
    sides, any_colour = PARTS[kind]
    parts = parts_of(grid, labels, int(label_parts(grid, sides, any_colour, labels, np.empty(h * w, dtype=np.int32))))
    table = np.vstack([measures(parts, (h, w)), np.full((1, len(MEASURES)), -1, dtype=np.int16)])
    for k, name in enumerate(MEASURES):
        yield f"{kind} {name}", table[labels, k]
    boxes = np.array([(p.top, p.left, p.height, p.width) for p in parts] + [(0, 0, 0, 0)], dtype=np.int16)
    r, c = np.indices((h, w)).astype(np.int16)
    none = labels < 0
    up, left = r - boxes[labels, 0], c - boxes[labels, 1]
    down, right = boxes[labels, 2] - 1 - up, boxes[labels, 3] - 1 - left
    ring = np.minimum(np.minimum(up, down), np.minimum(left, right))
    for name, values in (("up", up), ("down", down), ("left", left), ("right", right), ("ring", ring)):
        yield f"{kind} in_{name}", np.where(none, -1, values).astype(np.int16)
    odd = ((up + left) % 2).astype(np.int16)
    yield f"{kind} in_sum_mod", np.where(none, -1, odd).astype(np.int16)
    yield from _part_colours(grid, kind, labels, parts)


def _part_colours(grid: Grid, kind: str, labels: NDArray[np.int32], parts: list[Part]) -> Named:
    h, w = grid.shape
    coloured = [p for p in parts if p.colour != 0 or p.colours > 1]
    if kind == "object":
        main = np.array([p.colour for p in parts] + [NONE], dtype=np.int16)
        rare = np.array([p.rare for p in parts] + [NONE], dtype=np.int16)
        yield "object main", main[labels]
        yield "object rare", rare[labels]
        boxed = np.zeros((h, w), dtype=np.int16)
        for p in coloured:
            boxed[p.top : p.top + p.height, p.left : p.left + p.width] += 1
        yield "boxes", boxed
        for name, step in (("across", (1, -1)), ("down", (-1, 1)), ("both", (-1, -1))):
            turned = np.full((h, w), NONE, dtype=np.int16)
            for p in sorted(coloured, key=lambda p: p.cells):
                box = turned[p.top : p.top + p.height, p.left : p.left + p.width]
                box[:] = p.image[:: step[0], :: step[1]]
            yield f"object mirror_{name}", turned
    if kind == "part4":
        by_size = sorted(coloured, key=lambda p: (-p.cells, p.top, p.left))
        largest, smallest = (by_size[0].colour, by_size[-1].colour) if by_size else (NONE, NONE)
        yield "grid largest", np.full((h, w), largest, dtype=np.int16)
        yield "grid smallest", np.full((h, w), smallest, dtype=np.int16)
        around, kinds = _around(grid, labels, len(parts))
        yield "around", around[labels]
        yield "around_kinds", kinds[labels]
        open_ = np.array([p.top == 0 or p.left == 0 or p.top + p.height == h or p.left + p.width == w for p in parts])
        yield "enclosed", ((grid == 0) & ~open_[labels]).astype(np.int16)


def _around(grid: Grid, labels: NDArray[np.int32], number: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the most frequent other colour beside each part, NONE for none, and the number of such colours."""
    counts = np.zeros((number, 10), dtype=np.int64)
    h, w = grid.shape
    for down, right in ((0, 1), (1, 0)):
        a, b = (slice(0, h - down), slice(0, w - right)), (slice(down, h), slice(right, w))
        edge = labels[a] != labels[b]
        np.add.at(counts, (labels[a][edge], grid[b][edge]), 1)
        np.add.at(counts, (labels[b][edge], grid[a][edge]), 1)
    counts[:, 0] = 0
    some = counts.any(axis=1)
    return np.where(some, counts.argmax(axis=1), NONE).astype(np.int16), (counts > 0).sum(axis=1).astype(np.int16)


def features_of(grid: Grid) -> dict[str, Numbers]:
    """Return every feature of a grid by name: int16 [rows, columns]. The order of the names is always the same."""
    cells = grid.astype(np.int16)
    found: dict[str, Numbers] = {"own": cells}
    groups: list[Callable[[Numbers], Named]] = [_neighbours, _rays, _places, _reflections, _lines, _colours]
    for group in groups:
        found.update(group(cells))
    for kind in PARTS:
        found.update(_part_features(grid, kind))
    return found


COLOURS = frozenset({"own", "around", "row_colour", "column_colour", "object main", "object rare"})
"""Features whose value is a colour, beside those of which the first word says so."""
COLOUR_WORDS = frozenset({"beside", "second", "ray", "between", "mirror", "edge", "grid", "object mirror"})


def is_colour(name: str) -> bool:
    """Return whether the values of a feature are colours."""
    if name == "grid kinds":
        return False
    return name in COLOURS or name.split(" ")[0] in COLOUR_WORDS or name.startswith("object mirror_")


def joined_features(
    row: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> dict[str, NDArray[np.int16]]:
    """Return every feature of the grids of all pairs, int16 [cells of all pairs].

    Args:
        row: uint8, the cells of the grids one after the other.
        starts: int64 [pairs + 1], first cell of each.
        sizes: int64 [pairs, 2].
    """
    each = [features_of(row[starts[p] : starts[p + 1]].reshape(size)) for p, size in enumerate(sizes)]
    return {name: np.concatenate([one[name].ravel() for one in each]) for name in each[0]}


@cache
def names_of_features() -> frozenset[str]:
    """Return the names of all features."""
    return frozenset(features_of(np.zeros((1, 1), dtype=np.uint8)))
