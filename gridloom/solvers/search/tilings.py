"""Kernels of an image and a size: embedding, wrapping, stretching, tiling, repair of tilings and of symmetries."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import inner_kernel


@inner_kernel
def embed(src: Any, h: Any, w: Any, x: Any, y: Any, h2: Any, w2: Any, dst: Any) -> Any:
    """Put an image at its place into a grid of background, of h2 x w2 cells; what lies outside is cut off."""
    for i in range(h2 * w2):
        dst[i] = 0
    for r in range(max(0, -y), min(h, h2 - y)):
        for c in range(max(0, -x), min(w, w2 - x)):
            dst[(r + y) * w2 + c + x] = src[r * w + c]
    return h2, w2, 0, 0


@inner_kernel
def wrap(src: Any, h: Any, w: Any, h2: Any, w2: Any, dst: Any) -> Any:
    """Write a long line into a grid of h2 x w2 cells, turning back at its end as text does."""
    if h * w == 0 or h2 * w2 == 0:
        return -1, 0, 0, 0
    for i in range(h2 * w2):
        dst[i] = 0
    for r in range(h):
        for c in range(w):
            cc, rr = c + r // h2 * w, r % h2
            rr, cc = rr + cc // w2 * h, cc % w2
            if rr < h2:
                dst[rr * w2 + cc] = src[r * w + c]
    return h2, w2, 0, 0


@inner_kernel
def stretch(src: Any, h: Any, w: Any, h2: Any, w2: Any, dst: Any, work: Any) -> Any:
    """Scale an image to h2 x w2 cells; a cell gets the colour that covers most of it, in integer arithmetic."""
    if h * w == 0 or h2 * w2 == 0:
        return -1, 0, 0, 0
    shares = work[:10]
    for r in range(h2):
        for c in range(w2):
            for k in range(10):
                shares[k] = 0
            # in units of 1 / h2 rows and 1 / w2 columns a cell of the result spans h x w
            top, bottom, left, right = r * h, (r + 1) * h, c * w, (c + 1) * w
            for rr in range(top // h2, (bottom - 1) // h2 + 1):
                high = min(bottom, (rr + 1) * h2) - max(top, rr * h2)
                for cc in range(left // w2, (right - 1) // w2 + 1):
                    wide = min(right, (cc + 1) * w2) - max(left, cc * w2)
                    shares[np.int64(src[rr * w + cc])] += high * wide
            best = 0
            for k in range(1, 10):
                if shares[k] > shares[best]:
                    best = k
            dst[r * w2 + c] = best
    return h2, w2, 0, 0


@inner_kernel
def tile(src: Any, h: Any, w: Any, x: Any, y: Any, gap: Any, mirrored: Any, h2: Any, w2: Any, dst: Any) -> Any:
    """Cover h2 x w2 cells with copies of an image from its place on, `gap` cells apart, every other one mirrored or
    not."""
    if h * w == 0 or h2 * w2 == 0:
        return -1, 0, 0, 0
    tall, wide = h + gap, w + gap
    for r in range(h2):
        down = r - y
        rr = down % tall
        if mirrored and rr < h and (down // tall) % 2 != 0:
            rr = h - 1 - rr
        for c in range(w2):
            across = c - x
            cc = across % wide
            if mirrored and cc < w and (across // wide) % 2 != 0:
                cc = w - 1 - cc
            dst[r * w2 + c] = src[rr * w + cc] if rr < h and cc < w else 0
    return h2, w2, 0, 0


@inner_kernel
def periodic(src: Any, h: Any, w: Any, x: Any, y: Any, slanted: Any, dst: Any) -> Any:
    """Fill the background by the smallest repetition that the other cells obey; undefined where there is none.

    The repetition is a tile of rows x columns, or with `slanted` the diagonals that cells repeat along.
    """
    n = h * w
    best = n + 1
    best_rows, best_columns = 0, 0
    for rows in range(1, h + 1):
        for columns in range(1, w + 1):
            if rows * columns >= best or 4 * rows * columns > 3 * n:
                continue
            if slanted and rows != 1:
                continue
            for i in range(rows * columns):
                dst[i] = 0
            good = True
            known = 0
            for r in range(h):
                for c in range(w):
                    colour = src[r * w + c]
                    if colour == 0:
                        continue
                    at = (r % rows) * columns + (c % columns if not slanted else (r + c) % columns)
                    if dst[at] == 0:
                        dst[at] = colour
                        known += 1
                    elif dst[at] != colour:
                        good = False
                        break
                if not good:
                    break
            if good and known == rows * columns:
                best, best_rows, best_columns = rows * columns, rows, columns
    if best > n:
        return -1, 0, 0, 0
    # colours of the tile first, in the part of the buffer behind the image
    for i in range(best):
        dst[n + i] = 0
    for r in range(h):
        for c in range(w):
            if src[r * w + c] != 0:
                at = (r % best_rows) * best_columns
                dst[n + at + (c % best_columns if not slanted else (r + c) % best_columns)] = src[r * w + c]
    for r in range(h):
        for c in range(w):
            at = (r % best_rows) * best_columns
            dst[r * w + c] = dst[n + at + (c % best_columns if not slanted else (r + c) % best_columns)]
    return h, w, x, y


@inner_kernel
def unit(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any) -> Any:
    """Cut out the smallest tile that repeats over the whole image, background included, the last copies cut off;
    undefined where none is smaller than the image."""
    rows, columns = h, w
    for period in range(h - 1, 0, -1):
        good = True
        for i in range(period * w, h * w):
            if src[i] != src[i - period * w]:
                good = False
                break
        if good:
            rows = period
    for period in range(w - 1, 0, -1):
        good = True
        for r in range(h):
            for c in range(period, w):
                if src[r * w + c] != src[r * w + c - period]:
                    good = False
                    break
            if not good:
                break
        if good:
            columns = period
    if rows * columns == h * w:
        return -1, 0, 0, 0
    for r in range(rows):
        for c in range(columns):
            dst[r * columns + c] = src[r * w + c]
    return rows, columns, x, y
