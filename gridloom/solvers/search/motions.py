"""Kernels of one image: turns, rays, links, spreading colours, halves, gravity of cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import dihedral_cell, inner_kernel

RAYS = np.array(
    # right, left, down, up, then the diagonals: down-right, up-left, up-right, down-left
    [1, 2, 4, 8, 3, 12, 15, 16, 32, 64, 128, 48, 192, 240, 255],
    dtype=np.int64,
)
"""Sets of directions in which colours are drawn, as bits."""


@inner_kernel
def turn(src: Any, h: Any, w: Any, x: Any, y: Any, dihedral: Any, dst: Any) -> Any:
    """Turn or reflect an image by a dihedral id about its centre, rounded towards the first cell."""
    swapped = dihedral in (1, 3, 6, 7)
    h2, w2 = (w, h) if swapped else (h, w)
    for r in range(h):
        for c in range(w):
            r2, c2 = dihedral_cell(dihedral, r, c, h, w)
            dst[r2 * w2 + c2] = src[r * w + c]
    if swapped:
        return h2, w2, x + (w - w2) // 2, y + (h - h2) // 2
    return h2, w2, x, y


@inner_kernel
def turn_over(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Reflect an image across the axis that its shape lies farther from: left-right or up-down."""
    total, across, down = 0, 0, 0
    for r in range(h):
        for c in range(w):
            if src[r * w + c] != 0:
                total += 1
                across += c
                down += r
    vertical = abs(2 * across - (w - 1) * total) < abs(2 * down - (h - 1) * total)
    return turn(src, h, w, x, y, 5 if vertical else 4, dst)


@inner_kernel
def rays(src: Any, h: Any, w: Any, x: Any, y: Any, kind: Any, dst: Any) -> Any:
    """Draw every cell's colour on in the directions of `RAYS[kind]`, until the next cell of the shape.

    Directions are drawn one after the other, each over those before.
    """
    for i in range(h * w):
        dst[i] = src[i]
    bits = RAYS[kind]
    for d in range(8):
        if not bits >> d & 1:
            continue
        dx = 1 if d in (0, 4, 6) else -1 if d in (1, 5, 7) else 0
        dy = 1 if d in (2, 4, 7) else -1 if d in (3, 5, 6) else 0
        for r in range(h):
            for c in range(w):
                if 0 <= r - dy < h and 0 <= c - dx < w:
                    continue
                rr, cc = r, c
                colour: Any = 0
                while 0 <= rr < h and 0 <= cc < w:
                    cell = rr * w + cc
                    if src[cell] != 0:
                        colour = np.int64(src[cell])
                    if colour != 0:
                        dst[cell] = colour
                    rr, cc = rr + dy, cc + dx
    return h, w, x, y


@inner_kernel
def links(src: Any, h: Any, w: Any, x: Any, y: Any, kind: Any, dst: Any) -> Any:
    """Draw the lines between successive cells of one colour: 0 in rows, 1 in columns, 2 in both, 3 on diagonals."""
    for i in range(h * w):
        dst[i] = 0
    for d in range(4):
        if not ((d == 0 and kind in (0, 2)) or (d == 1 and kind in (1, 2)) or (d >= 2 and kind == 3)):
            continue
        dy = 0 if d == 0 else 1
        dx = 1 if d in (0, 2) else 0 if d == 1 else -1
        for r in range(h):
            for c in range(w):
                if 0 <= r - dy < h and 0 <= c - dx < w:
                    continue
                rr, cc = r, c
                last: Any = 0
                steps = 0
                while 0 <= rr < h and 0 <= cc < w:
                    colour = np.int64(src[rr * w + cc])
                    if colour != 0:
                        if colour == last:
                            for k in range(1, steps):
                                dst[(rr - k * dy) * w + cc - k * dx] = colour
                        last, steps = colour, 0
                    steps += 1
                    rr, cc = rr + dy, cc + dx
    return h, w, x, y


@inner_kernel
def reach(src: Any, h: Any, w: Any, x: Any, y: Any, main: Any, dst: Any) -> Any:
    """Draw a line from each cell of another colour to the nearest cell of colour `main` in its row and its column,
    through background alone."""
    for i in range(h * w):
        dst[i] = src[i]
    for r in range(h):
        for c in range(w):
            colour = np.int64(src[r * w + c])
            if colour in (0, main):
                continue
            for d in range(4):
                dy, dx = (d == 0) - np.int64(d == 1), (d == 2) - np.int64(d == 3)
                rr, cc = r + dy, c + dx
                steps = 0
                while 0 <= rr < h and 0 <= cc < w and src[rr * w + cc] == 0:
                    rr, cc = rr + dy, cc + dx
                    steps += 1
                if 0 <= rr < h and 0 <= cc < w and src[rr * w + cc] == main:
                    for k in range(1, steps + 1):
                        dst[(r + k * dy) * w + c + k * dx] = colour
    return h, w, x, y


@inner_kernel
def spin(src: Any, h: Any, w: Any, dst: Any) -> Any:
    """Set a square image and its three turns around a centre: itself upper left, then clockwise."""
    if h != w or h == 0:
        return -1, 0, 0, 0
    for r in range(h):
        for c in range(h):
            for k in range(4):
                # by k quarters clockwise
                rr, cc = r, c
                for _ in range(k):
                    rr, cc = cc, h - 1 - rr
                down, across = h * (k >= 2), h * (k in (1, 2))
                dst[(rr + down) * 2 * h + cc + across] = src[r * h + c]
    return 2 * h, 2 * h, 0, 0


@inner_kernel
def spread(src: Any, h: Any, w: Any, x: Any, y: Any, but: Any, dst: Any, work: Any) -> Any:
    """Let colours grow into the background, step by step on four sides; colour `but` stays as it is."""
    first, last = 0, 0
    for i in range(h * w):
        dst[i] = src[i]
        if src[i] != 0 and src[i] != but:
            work[last] = i
            last += 1
    while first < last:
        cell = work[first]
        first += 1
        r, c = cell // w, cell % w
        for d in range(4):
            rr, cc = r + (d == 0) - (d == 1), c + (d == 2) - (d == 3)
            if 0 <= rr < h and 0 <= cc < w and dst[rr * w + cc] == 0:
                dst[rr * w + cc] = dst[cell]
                work[last] = rr * w + cc
                last += 1
    return h, w, x, y


@inner_kernel
def half(src: Any, h: Any, w: Any, x: Any, y: Any, side: Any, dst: Any) -> Any:
    """Cut out a half without a middle line: 0 left, 1 right, 2 upper, 3 lower."""
    h2, w2 = (h, w // 2) if side < 2 else (h // 2, w)
    left = w - w2 if side == 1 else 0
    top = h - h2 if side == 3 else 0
    for r in range(h2):
        for c in range(w2):
            dst[r * w2 + c] = src[(r + top) * w + c + left]
    return h2, w2, x + left, y + top


@inner_kernel
def settle(src: Any, h: Any, w: Any, x: Any, y: Any, side: Any, dst: Any) -> Any:
    """Let every cell fall by itself: 0 right, 1 left, 2 down, 3 up."""
    for i in range(h * w):
        dst[i] = 0
    lines, length = (h, w) if side < 2 else (w, h)
    for line in range(lines):
        filled = 0
        for k in range(length):
            at = length - 1 - k if side in (0, 2) else k
            cell = line * w + at if side < 2 else at * w + line
            if src[cell] != 0:
                to = length - 1 - filled if side in (0, 2) else filled
                dst[line * w + to if side < 2 else to * w + line] = src[cell]
                filled += 1
    return h, w, x, y


@inner_kernel
def symmetric(src: Any, h: Any, w: Any, x: Any, y: Any, kind: Any, dst: Any) -> Any:
    """Complete the background from the reflected image: 0 left-right, 1 up-down, 2 both and turned by 180 degrees,
    3 also across the diagonals of a square."""
    for i in range(h * w):
        dst[i] = src[i]
    if kind == 3 and h != w:
        return -1, 0, 0, 0
    for d in range(1, 8):
        used = d == 4 if kind == 0 else d == 5 if kind == 1 else d in (2, 4, 5) if kind == 2 else True
        if not used:
            continue
        for r in range(h):
            for c in range(w):
                if src[r * w + c] == 0 and dst[r * w + c] == 0:
                    r2, c2 = dihedral_cell(d, r, c, h, w)
                    dst[r * w + c] = src[r2 * w + c2]
    return h, w, x, y
