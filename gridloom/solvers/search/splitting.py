"""Kernels that split an image into a list of images: by separators, colours, objects, rows, columns, marks, gravity.

A list is written as the cells of its images, one after the other, to `dst`, and as rows h, w, x, y, first cell to
`heads` (int64 [MAX_LIST, 5]). A kernel returns the number of images, or -1 where it is undefined or there is no room.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import inner_kernel

MAX_LIST = 64
"""Images that a list may have."""


@inner_kernel
def label_parts(src: Any, h: Any, w: Any, apart: Any, sides: Any, same: Any, labels: Any, stack: Any) -> Any:
    """Label the parts of the cells other than colour `apart`, from 1 in order of their first cells; 0 marks `apart`.

    Cells are connected on four or eight sides, and with `same` only cells of one colour. Returns the number of parts.
    """
    n = h * w
    for i in range(n):
        labels[i] = 0
    number = 0
    for start in range(n):
        if src[start] == apart or labels[start] != 0:
            continue
        number += 1
        labels[start] = number
        stack[0] = start
        top = 1
        while top > 0:
            top -= 1
            cell = stack[top]
            r, c = cell // w, cell % w
            for rr in range(max(r - 1, 0), min(r + 2, h)):
                for cc in range(max(c - 1, 0), min(c + 2, w)):
                    if sides == 4 and rr != r and cc != c:
                        continue
                    other = rr * w + cc
                    if labels[other] == 0 and src[other] != apart and (same == 0 or src[other] == src[cell]):
                        labels[other] = number
                        stack[top] = other
                        top += 1
    return number


@inner_kernel
def cut_labels(src: Any, h: Any, w: Any, x: Any, y: Any, labels: Any, number: Any, dst: Any, heads: Any) -> Any:
    """Write the boxes around the labels 1 to `number`, each with its own cells alone."""
    if number > MAX_LIST:
        return -1
    for k in range(number):
        heads[k, 0], heads[k, 1] = -1, -1  # bottom, right
        heads[k, 2], heads[k, 3] = w, h  # left, top
    for r in range(h):
        for c in range(w):
            k = labels[r * w + c] - 1
            if k >= 0:
                heads[k, 0], heads[k, 1] = max(heads[k, 0], r), max(heads[k, 1], c)
                heads[k, 2], heads[k, 3] = min(heads[k, 2], c), min(heads[k, 3], r)
    used = 0
    for k in range(number):
        left, top = heads[k, 2], heads[k, 3]
        h2, w2 = heads[k, 0] - top + 1, heads[k, 1] - left + 1
        if used + h2 * w2 > dst.size:
            return -1
        for r in range(h2):
            for c in range(w2):
                cell = (r + top) * w + c + left
                dst[used + r * w2 + c] = src[cell] if labels[cell] == k + 1 else 0
        heads[k, 0], heads[k, 1], heads[k, 2], heads[k, 3], heads[k, 4] = h2, w2, x + left, y + top, used
        used += h2 * w2
    return number


@inner_kernel
def objects(src: Any, h: Any, w: Any, x: Any, y: Any, sides: Any, same: Any, dst: Any, heads: Any, work: Any) -> Any:
    """Split into objects: parts other than background, of one colour with `same`."""
    n = h * w
    number = label_parts(src, h, w, np.int64(0), sides, same, work[:n], work[n:])
    if number == 0:
        return -1
    return cut_labels(src, h, w, x, y, work[:n], number, dst, heads)


@inner_kernel
def regions(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, heads: Any, work: Any) -> Any:
    """Split into the parts of the background, connected on four sides, in colour 1."""
    n = h * w
    rest = dst.size - n
    ground = dst[rest:]
    for i in range(n):
        ground[i] = 1 if src[i] == 0 else 0
    number = label_parts(ground, h, w, np.int64(0), np.int64(4), np.int64(0), work[:n], work[n:])
    if number == 0:
        return -1
    return cut_labels(ground, h, w, x, y, work[:n], number, dst[:rest], heads)


@inner_kernel
def separator(src: Any, h: Any, w: Any, work: Any) -> Any:
    """Return the colour that cuts an image best: it joins opposite sides, every piece touches its part that begins at
    the border, and the smallest of at least two pieces is as large as possible; -1 where no colour does so."""
    n = h * w
    labels, stack, sizes = work[:n], work[n : 2 * n], work[2 * n :]
    best, best_size = -1, 0
    for colour in range(10):
        top, bottom, left, right = False, False, False, False
        for i in range(n):
            if src[i] == colour:
                top |= i < w
                bottom |= i >= n - w
                left |= i % w == 0
                right |= i % w == w - 1
        if not ((top and bottom) or (left and right)):
            continue
        number = label_parts(src, h, w, np.int64(colour), np.int64(8), np.int64(0), labels, stack)
        if number < 2:
            continue
        for k in range(number + 1):
            sizes[k] = 0
        for i in range(n):
            sizes[labels[i]] += 1
        smallest = n
        for k in range(1, number + 1):
            smallest = min(smallest, sizes[k])
        if smallest <= best_size:
            continue
        # the separator from the border on, on eight sides: -1
        depth = 0
        for i in range(n):
            r, c = i // w, i % w
            if labels[i] == 0 and (r == 0 or c == 0 or r == h - 1 or c == w - 1):
                labels[i] = -1
                stack[depth] = i
                depth += 1
        for k in range(number + 1):
            sizes[k] = 0
        while depth > 0:
            depth -= 1
            r, c = stack[depth] // w, stack[depth] % w
            for rr in range(max(r - 1, 0), min(r + 2, h)):
                for cc in range(max(c - 1, 0), min(c + 2, w)):
                    other = rr * w + cc
                    if labels[other] == 0:
                        labels[other] = -1
                        stack[depth] = other
                        depth += 1
                    elif labels[other] > 0:
                        sizes[labels[other]] = 1
        touched = 0
        for k in range(1, number + 1):
            touched += sizes[k]
        if touched == number:
            best, best_size = colour, smallest
    return best


@inner_kernel
def cut(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, heads: Any, work: Any) -> Any:
    """Split along the separator: pieces of all other cells, background too, connected on eight sides."""
    n = h * w
    colour = separator(src, h, w, work)
    if colour < 0:
        colour = 0
    number = label_parts(src, h, w, np.int64(colour), np.int64(8), np.int64(0), work[:n], work[n:])
    if number == 0:
        return -1
    return cut_labels(src, h, w, x, y, work[:n], number, dst, heads)


@inner_kernel
def colours(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, heads: Any) -> Any:
    """Split into the cells of each colour, least colour first, each of the image's size."""
    n = h * w
    number = 0
    for colour in range(1, 10):
        found = False
        for i in range(n):
            if src[i] == colour:
                found = True
                break
        if not found:
            continue
        if (number + 1) * n > dst.size:
            return -1
        for i in range(n):
            dst[number * n + i] = colour if src[i] == colour else 0
        heads[number, 0], heads[number, 1], heads[number, 2], heads[number, 3] = h, w, x, y
        heads[number, 4] = number * n
        number += 1
    return number if number > 0 else -1


@inner_kernel
def lines(src: Any, h: Any, w: Any, x: Any, y: Any, in_columns: Any, dst: Any, heads: Any) -> Any:
    """Split into rows or columns."""
    number = w if in_columns else h
    if number == 0 or number > MAX_LIST:
        return -1
    for r in range(h):
        for c in range(w):
            dst[c * h + r if in_columns else r * w + c] = src[r * w + c]
    for k in range(number):
        heads[k, 0], heads[k, 1] = (h, 1) if in_columns else (1, w)
        heads[k, 2], heads[k, 3] = (x + k, y) if in_columns else (x, y + k)
        heads[k, 4] = k * (h if in_columns else w)
    return number


@inner_kernel
def is_corner(src: Any, h: Any, w: Any, r: Any, c: Any, missing: Any) -> Any:
    """Whether of the 2 x 2 cells from (r, c) on all but number `missing` have one colour, the missing one another."""
    colour = src[(r + (0 if missing >= 2 else 1)) * w + c + (0 if missing % 2 else 1)]
    if colour == 0:
        return False
    alike = 0
    for k in range(4):
        alike += src[(r + k // 2) * w + c + k % 2] == colour
    return alike == 3 and src[(r + missing // 2) * w + c + missing % 2] != colour


@inner_kernel
def marked(src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, heads: Any) -> Any:
    """Split into the rectangles whose four corners are marked by angles of three cells of one colour."""
    number, used = 0, 0
    for r in range(h - 2):
        for c in range(w - 2):
            if not is_corner(src, h, w, r, c, np.int64(3)):
                continue
            colour = src[r * w + c]
            for r2 in range(r + 1, h - 1):
                if not (is_corner(src, h, w, r2, c, np.int64(1)) and src[r2 * w + c] == colour):
                    continue
                for c2 in range(c + 1, w - 1):
                    if not (is_corner(src, h, w, r, c2, np.int64(2)) and is_corner(src, h, w, r2, c2, np.int64(0))):
                        continue
                    if src[r * w + c2] != colour or src[(r2 + 1) * w + c2] != colour:
                        continue
                    h2, w2 = r2 - r, c2 - c
                    if number == MAX_LIST or used + h2 * w2 > dst.size:
                        return -1
                    for i in range(h2):
                        for j in range(w2):
                            dst[used + i * w2 + j] = max(np.int64(src[(r + 1 + i) * w + c + 1 + j]), 1)
                    heads[number, 0], heads[number, 1], heads[number, 2], heads[number, 3] = (
                        h2,
                        w2,
                        x + c + 1,
                        y + r + 1,
                    )
                    heads[number, 4] = used
                    used += h2 * w2
                    number += 1
    return number if number > 0 else -1


@inner_kernel
def fall(src: Any, h: Any, w: Any, x: Any, y: Any, side: Any, dst: Any, heads: Any, work: Any) -> Any:
    """Split into objects of one colour (four sides), and let each fall: 0 right, 1 left, 2 down, 3 up."""
    n = h * w
    number = label_parts(src, h, w, np.int64(0), np.int64(4), np.int64(1), work[:n], work[n:])
    if number == 0 or cut_labels(src, h, w, np.int64(0), np.int64(0), work[:n], number, dst, heads) < 0:
        return -1
    dx, dy = (side == 0) - np.int64(side == 1), (side == 2) - np.int64(side == 3)
    room, order = work[:n], work[n : n + number]
    for i in range(n):
        room[i] = 0
    for k in range(number):  # those that are farthest along fall first
        place = k
        ahead = (heads[k, 2] + (heads[k, 1] if dx > 0 else 0)) * dx + (
            heads[k, 3] + (heads[k, 0] if dy > 0 else 0)
        ) * dy
        while place > 0:
            j = order[place - 1]
            other = (heads[j, 2] + (heads[j, 1] if dx > 0 else 0)) * dx
            other += (heads[j, 3] + (heads[j, 0] if dy > 0 else 0)) * dy
            if other >= ahead:
                break
            order[place] = j
            place -= 1
        order[place] = k
    for place in range(number):
        k = order[place]
        h2, w2, first = heads[k, 0], heads[k, 1], heads[k, 4]
        free = True
        while free:
            left, top = heads[k, 2] + dx, heads[k, 3] + dy
            for i in range(h2 * w2):
                if dst[first + i] != 0:
                    r, c = top + i // w2, left + i % w2
                    if not (0 <= r < h and 0 <= c < w) or room[r * w + c] != 0:
                        free = False
                        break
            if free:
                heads[k, 2], heads[k, 3] = left, top
        for i in range(h2 * w2):
            if dst[first + i] != 0:
                room[(heads[k, 3] + i // w2) * w + heads[k, 2] + i % w2] = 1
    for k in range(number):
        heads[k, 2] += x
        heads[k, 3] += y
    return number
