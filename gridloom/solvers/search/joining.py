"""Kernels of lists of images: measures, choices, and joins to one image.

A list is `heads` int64 [n, 5] (h, w, x, y, first cell) and the cells of its images in `cells`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import dihedral_cell, inner_kernel
from gridloom.solvers.search.cells import colour_bits, count_bits, count_cells, count_parts, enclosed

MEASURES = (
    "cells",
    "fewest_cells",
    "area",
    "least_area",
    "colours",
    "fewest_colours",
    "top",
    "bottom",
    "left",
    "right",
    "parts",
    "fewest_parts",
    "gaps",
    "fewest_gaps",
    "enclosed",
    "least_enclosed",
    "symmetry",
    "least_symmetry",
    "common_shape",
    "rare_shape",
    "common_image",
    "rare_image",
)
"""What a list is ordered by; the largest value is chosen."""


@inner_kernel
def mirror_count(src: Any, h: Any, w: Any) -> Any:
    """Return the number of turns and reflections under which an image is unchanged, the identity left out."""
    total = 0
    for d in range(1, 8):
        if d in (1, 3, 6, 7) and h != w:
            continue
        equal = True
        for r in range(h):
            for c in range(w):
                r2, c2 = dihedral_cell(d, r, c, h, w)
                if src[r * w + c] != src[r2 * w + c2]:
                    equal = False
                    break
            if not equal:
                break
        total += equal
    return total


@inner_kernel
def count_alike(cells: Any, heads: Any, n: Any, k: Any, coloured: Any) -> Any:
    """Return how many images of the list have the shape of image k, with `coloured` its colours too."""
    total = 0
    for j in range(n):
        if heads[j, 0] != heads[k, 0] or heads[j, 1] != heads[k, 1]:
            continue
        equal = True
        for i in range(heads[k, 0] * heads[k, 1]):
            a, b = cells[heads[j, 4] + i], cells[heads[k, 4] + i]
            if (a != b) if coloured else ((a != 0) != (b != 0)):
                equal = False
                break
        total += equal
    return total


@inner_kernel
def measure(cells: Any, heads: Any, n: Any, kind: Any, values: Any, buffer: Any, work: Any) -> None:
    """Set values int64 [n] to what `MEASURES[kind]` gives each image."""
    for k in range(n):
        h, w = heads[k, 0], heads[k, 1]
        src = cells[heads[k, 4] : heads[k, 4] + h * w]
        value = 0
        if kind <= 1:
            value = count_cells(src, h * w)
        elif kind <= 3:
            value = h * w
        elif kind <= 5:
            value = count_bits(colour_bits(src, h * w) & ~1)
        elif kind == 6:
            value = -heads[k, 3]
        elif kind == 7:
            value = heads[k, 3]
        elif kind == 8:
            value = -heads[k, 2]
        elif kind == 9:
            value = heads[k, 2]
        elif kind <= 11:
            value = count_parts(src, h, w, work)
        elif kind <= 13:
            top, bottom, left, right = h, -1, w, -1
            for r in range(h):
                for c in range(w):
                    if src[r * w + c] != 0:
                        top, bottom, left, right = min(top, r), max(bottom, r), min(left, c), max(right, c)
            if bottom >= 0:
                value = (bottom - top + 1) * (right - left + 1) - count_cells(src, h * w)
        elif kind <= 15:
            enclosed(src, h, w, np.int64(0), np.int64(0), buffer, work)
            value = count_cells(buffer, h * w)
        elif kind <= 17:
            value = mirror_count(src, h, w)
        else:
            value = count_alike(cells, heads, n, k, kind >= 20)
        negative = kind in (1, 3, 5, 11, 13, 15, 17, 19, 21)
        values[k] = -value if negative else value


@inner_kernel
def pick_unique(cells: Any, heads: Any, n: Any) -> Any:
    """Return the one image that has a colour no other has, or -1."""
    found = -1
    for colour in range(1, 10):
        owners, owner = 0, -1
        for k in range(n):
            src = cells[heads[k, 4] : heads[k, 4] + heads[k, 0] * heads[k, 1]]
            if colour_bits(src, src.size) >> colour & 1:
                owners += 1
                owner = k
        if owners == 1:
            if found not in (-1, owner):
                return -1
            found = owner
    return found


@inner_kernel
def order_by(values: Any, n: Any, order: Any) -> None:
    """Set order int64 [n] to the indices by ascending value; equal values keep their order."""
    for k in range(n):
        place = k
        while place > 0 and values[order[place - 1]] > values[k]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = k


@inner_kernel
def layer(cells: Any, heads: Any, n: Any, max_area: Any, dst: Any, sizes: Any, order: Any) -> Any:
    """Lay the images over each other at their places, those with fewest cells on top; sizes and order int64 [MAX_LIST]
    are scratch."""
    top, bottom, left, right = 10**6, -(10**6), 10**6, -(10**6)
    for k in range(n):
        h, w, x, y = heads[k, 0], heads[k, 1], heads[k, 2], heads[k, 3]
        sizes[k] = 0
        if h * w == 0:
            continue
        top, bottom, left, right = min(top, y), max(bottom, y + h), min(left, x), max(right, x + w)
        sizes[k] = -count_cells(cells[heads[k, 4] : heads[k, 4] + h * w], h * w)
    h2, w2 = bottom - top, right - left
    if h2 <= 0 or h2 * w2 > max_area:
        return -1, 0, 0, 0
    order_by(sizes, n, order)
    for i in range(h2 * w2):
        dst[i] = 0
    for place in range(n):
        k = order[place]
        h, w, x, y, first = heads[k, 0], heads[k, 1], heads[k, 2], heads[k, 3], heads[k, 4]
        for r in range(h):
            for c in range(w):
                if cells[first + r * w + c] != 0:
                    dst[(r + y - top) * w2 + c + x - left] = cells[first + r * w + c]
    return h2, w2, left, top


@inner_kernel
def line_up(cells: Any, heads: Any, n: Any, way: Any, max_area: Any, dst: Any, values: Any, order: Any) -> Any:
    """Set the images beside (way 0) or below each other (1), smallest area first; with way 2 in the order of their
    places, along the axis on which they lie apart; values and order int64 [MAX_LIST] are scratch."""
    if n == 0:
        return -1, 0, 0, 0
    below = way == 1
    for k in range(n):
        values[k] = heads[k, 0] * heads[k, 1]
    if way == 2:
        nearest_x, nearest_y = 10**6, 10**6
        for axis in range(2):
            for k in range(n):
                values[k] = heads[k, 2 + axis]
            order_by(values, n, order)
            nearest = 10**6
            for k in range(1, n):
                nearest = min(nearest, values[order[k]] - values[order[k - 1]])
            if axis == 0:
                nearest_x = nearest
            else:
                nearest_y = nearest
        below = nearest_x < nearest_y
        for k in range(n):
            values[k] = heads[k, 3 if below else 2]
    order_by(values, n, order)
    h2, w2 = 0, 0
    for k in range(n):
        h2 = h2 + heads[k, 0] if below else max(h2, heads[k, 0])
        w2 = max(w2, heads[k, 1]) if below else w2 + heads[k, 1]
    if h2 * w2 > max_area or h2 * w2 == 0:
        return -1, 0, 0, 0
    for i in range(h2 * w2):
        dst[i] = 0
    at = 0
    for place in range(n):
        k = order[place]
        h, w, first = heads[k, 0], heads[k, 1], heads[k, 4]
        for r in range(h):
            for c in range(w):
                dst[(r + at) * w2 + c if below else r * w2 + c + at] = cells[first + r * w + c]
        at += h if below else w
    return h2, w2, heads[order[0], 2], heads[order[0], 3]


@inner_kernel
def overlap(cells: Any, heads: Any, n: Any, way: Any, dst: Any) -> Any:
    """Combine images of one size cell by cell: 0 where all have a cell (the first's colour), 1 the first image that has
    one, 2 where exactly one has a cell, 3 where none has one (colour 1)."""
    h, w = heads[0, 0], heads[0, 1]
    for k in range(n):
        if heads[k, 0] != h or heads[k, 1] != w:
            return -1, 0, 0, 0
    if n < 2 or h * w == 0:
        return -1, 0, 0, 0
    for i in range(h * w):
        total = 0
        colour: Any = 0
        for k in range(n):
            if cells[heads[k, 4] + i] != 0:
                total += 1
                if colour == 0:
                    colour = np.int64(cells[heads[k, 4] + i])
        if way == 0:
            dst[i] = colour if total == n else 0
        elif way == 1:
            dst[i] = colour
        elif way == 2:
            dst[i] = colour if total == 1 else 0
        else:
            dst[i] = 1 if total == 0 else 0
    return h, w, 0, 0
