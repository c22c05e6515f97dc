"""Kernels of one image: measures, colours, boxes, fills.

An image is its cells (uint8 [h * w], row by row, 0 is the background), its size h, w and the position x, y of its first
cell relative to the first cell of the grid it came from. A kernel that makes an image gets the cells of the argument
and a buffer for its own cells, and returns h, w, x, y; h is -1 where it is undefined. `work` is int32 scratch of at
least four times as many elements as an image may have cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import inner_kernel

NONE = -1
"""Height of an image that is undefined."""


@inner_kernel
def count_cells(src: Any, n: Any) -> Any:
    """Return the number of cells other than background."""
    total = 0
    for i in range(n):
        if src[i] != 0:
            total += 1
    return total


@inner_kernel
def colour_bits(src: Any, n: Any) -> Any:
    """Return the colours of an image as bits: bit c for colour c, background included."""
    bits: Any = 0
    for i in range(n):
        bits |= 1 << np.int64(src[i])
    return bits


@inner_kernel
def count_bits(bits: Any) -> Any:
    """Return the number of bits that are set, for a non-negative int64."""
    total = 0
    while bits:
        bits &= bits - 1
        total += 1
    return total


@inner_kernel
def main_colour(src: Any, n: Any, lowest: Any) -> Any:
    """Return the most frequent colour from `lowest` (0 or 1) on, the least one of several; 0 for an empty image."""
    best, most = 0, 0
    for colour in range(lowest, 10):
        total = 0
        for i in range(n):
            if src[i] == colour:
                total += 1
        if total > most:
            best, most = colour, total
    return best


@inner_kernel
def count_parts(src: Any, h: Any, w: Any, work: Any) -> Any:
    """Return the number of parts of an image, cells being connected on eight sides, whatever their colours."""
    n = h * w
    for i in range(n):
        work[i] = 0
    total = 0
    for start in range(n):
        if src[start] == 0 or work[start] != 0:
            continue
        total += 1
        work[start] = 1
        work[n] = start
        top = 1
        while top > 0:
            top -= 1
            cell = work[n + top]
            r, c = cell // w, cell % w
            for rr in range(max(r - 1, 0), min(r + 2, h)):
                for cc in range(max(c - 1, 0), min(c + 2, w)):
                    other = rr * w + cc
                    if src[other] != 0 and work[other] == 0:
                        work[other] = 1
                        work[n + top] = other
                        top += 1
    return total


@inner_kernel
def paint(dst: Any, n: Any, colour: Any) -> None:
    """Set n cells to a colour."""
    for i in range(n):
        dst[i] = colour


@inner_kernel
def only(src: Any, h: Any, w: Any, x: Any, y: Any, colour: Any, dst: Any) -> Any:
    """Keep the cells of one colour."""
    for i in range(h * w):
        dst[i] = colour if src[i] == colour else 0
    return h, w, x, y


@inner_kernel
def drop(src: Any, h: Any, w: Any, x: Any, y: Any, colour: Any, dst: Any) -> Any:
    """Erase the cells of one colour."""
    for i in range(h * w):
        dst[i] = 0 if src[i] == colour else src[i]
    return h, w, x, y


@inner_kernel
def recolour(src: Any, h: Any, w: Any, x: Any, y: Any, colour: Any, dst: Any) -> Any:
    """Give every cell other than background one colour."""
    for i in range(h * w):
        dst[i] = colour if src[i] != 0 else 0
    return h, w, x, y


@inner_kernel
def negative(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Exchange background and shape; the new shape has the least colour of the image, or colour 1."""
    bits = colour_bits(src, h * w)
    colour = 1
    for c in range(1, 10):
        if bits >> c & 1:
            colour = c
            break
    for i in range(h * w):
        dst[i] = 0 if src[i] != 0 else colour
    return h, w, x, y


@inner_kernel
def crop(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Cut out the box around all cells other than background; nothing is left of an image without any."""
    top, bottom, left, right = h, -1, w, -1
    for r in range(h):
        for c in range(w):
            if src[r * w + c] != 0:
                top, bottom = min(top, r), max(bottom, r)
                left, right = min(left, c), max(right, c)
    if bottom < 0:
        return 0, 0, 0, 0
    h2, w2 = bottom - top + 1, right - left + 1
    for r in range(h2):
        for c in range(w2):
            dst[r * w2 + c] = src[(r + top) * w + c + left]
    return h2, w2, x + left, y + top


@inner_kernel
def box(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Fill the box around all cells other than background with the main colour."""
    h2, w2, x2, y2 = crop(src, h, w, x, y, dst)
    paint(dst, h2 * w2, main_colour(src, h * w, 1))
    return h2, w2, x2, y2


@inner_kernel
def blocks(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Keep the cells that lie in a block of 2 x 2 cells other than background: a morphological opening."""
    for i in range(h * w):
        dst[i] = 0
    for r in range(h - 1):
        for c in range(w - 1):
            at = r * w + c
            if src[at] != 0 and src[at + 1] != 0 and src[at + w] != 0 and src[at + w + 1] != 0:
                dst[at], dst[at + 1] = src[at], src[at + 1]
                dst[at + w], dst[at + w + 1] = src[at + w], src[at + w + 1]
    return h, w, x, y


@inner_kernel
def silhouette(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, work: Any) -> Any:
    """Fill an image's shape and what it encloses (on four sides) with its main colour."""
    n = h * w
    paint(dst, n, main_colour(src, n, 1))
    top = 0
    for r in range(h):
        for c in range(w):
            cell = r * w + c
            if (r == 0 or c == 0 or r == h - 1 or c == w - 1) and src[cell] == 0:
                dst[cell] = 0
                work[top] = cell
                top += 1
    outside = top
    while outside > 0:
        outside -= 1
        cell = work[outside]
        r, c = cell // w, cell % w
        for d in range(4):
            rr, cc = r + (d == 0) - (d == 1), c + (d == 2) - (d == 3)
            if 0 <= rr < h and 0 <= cc < w:
                other = rr * w + cc
                if src[other] == 0 and dst[other] != 0:
                    dst[other] = 0
                    work[outside] = other
                    outside += 1
    return h, w, x, y


@inner_kernel
def enclosed(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, work: Any) -> Any:
    """Fill what a shape encloses with its main colour, and erase the shape."""
    silhouette(src, h, w, x, y, dst, work)
    for i in range(h * w):
        if src[i] != 0:
            dst[i] = 0
    return h, w, x, y


@inner_kernel
def outer(src: Any, h: Any, w: Any, x: Any, y: Any, keep_inner: Any, dst: Any, work: Any) -> Any:
    """Keep the cells of a shape that touch the outside on eight sides, or all others with `keep_inner`.

    The outside begins at the border of the image and runs through background connected on eight sides.
    """
    n = h * w
    for i in range(n):
        work[i] = 0
    top = 0
    for r in range(h):
        for c in range(w):
            if r == 0 or c == 0 or r == h - 1 or c == w - 1:
                cell = r * w + c
                work[cell] = 1
                if src[cell] == 0:
                    work[n + top] = cell
                    top += 1
    while top > 0:
        top -= 1
        cell = work[n + top]
        r, c = cell // w, cell % w
        for rr in range(max(r - 1, 0), min(r + 2, h)):
            for cc in range(max(c - 1, 0), min(c + 2, w)):
                other = rr * w + cc
                if work[other] == 0:
                    work[other] = 1
                    if src[other] == 0:
                        work[n + top] = other
                        top += 1
    for i in range(n):
        dst[i] = src[i] if (work[i] != 0) != keep_inner else 0
    return h, w, x, y


@inner_kernel
def halo(src: Any, h: Any, w: Any, x: Any, y: Any, sides: Any, dst: Any) -> Any:
    """Colour the background cells beside a shape, on `sides` (four or eight) sides, with colour 1; erase the shape."""
    for r in range(h):
        for c in range(w):
            near = False
            if src[r * w + c] == 0:
                for rr in range(max(r - 1, 0), min(r + 2, h)):
                    for cc in range(max(c - 1, 0), min(c + 2, w)):
                        if src[rr * w + cc] != 0 and (sides == 8 or rr == r or cc == c):
                            near = True
            dst[r * w + c] = 1 if near else 0
    return h, w, x, y


@inner_kernel
def frame(src: Any, h: Any, w: Any, x: Any, y: Any, colour: Any, dst: Any) -> Any:
    """Put a frame of one cell in a colour around the whole image."""
    w2 = w + 2
    paint(dst, (h + 2) * w2, colour)
    for r in range(h):
        for c in range(w):
            dst[(r + 1) * w2 + c + 1] = src[r * w + c]
    return h + 2, w2, x - 1, y - 1


@inner_kernel
def squeeze(src: Any, h: Any, w: Any, equal: Any, dst: Any, work: Any) -> Any:
    """Delete the rows and columns that are all background, or with `equal` those that repeat the one before."""
    rows, columns = work[:h], work[h : h + w]
    for r in range(h):
        rows[r] = 1 if equal and r == 0 else 0
    for c in range(w):
        columns[c] = 1 if equal and c == 0 else 0
    for r in range(h):
        for c in range(w):
            cell = src[r * w + c]
            if equal:
                if r > 0 and cell != src[(r - 1) * w + c]:
                    rows[r] = 1
                if c > 0 and cell != src[r * w + c - 1]:
                    columns[c] = 1
            elif cell != 0:
                rows[r], columns[c] = 1, 1
    h2, w2 = 0, 0
    for c in range(w):
        w2 += columns[c]
    for r in range(h):
        if rows[r]:
            k = 0
            for c in range(w):
                if columns[c]:
                    dst[h2 * w2 + k] = src[r * w + c]
                    k += 1
            h2 += 1
    return h2, w2, 0, 0
