"""Calls of the functions on values, and the store of values: every image and list of every grid pair is kept once."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import inlined_kernel, inner_kernel, mix
from gridloom.solvers.search import cells as one
from gridloom.solvers.search import joining as join
from gridloom.solvers.search import motions as motion
from gridloom.solvers.search import splitting as split
from gridloom.solvers.search import tilings as tiling
from gridloom.solvers.search.functions import CODE

MAX_SIDE = 60
"""Side of an image in a search; grids have up to 30."""
ONLY, DROP, RECOLOUR, NEGATIVE, CROP = (CODE[n] for n in ("only", "drop", "recolour", "negative", "crop"))
PLACE, BLANK_AT_ORIGIN, BLANK, HULL = (CODE[n] for n in ("place", "blank_at_origin", "blank", "hull"))
HULL_AT_ORIGIN, ORIGIN, SILHOUETTE = (CODE[n] for n in ("hull_at_origin", "origin", "silhouette"))
ENCLOSED, OUTER, INNER, CENTRE = (CODE[n] for n in ("enclosed", "outer", "inner", "centre"))
MAIN_COLOUR, TURN, TURN_OVER, COUNT = (CODE[n] for n in ("main_colour", "turn", "turn_over", "count"))
RAYS, HALO, FRAME, SQUEEZE, UNSCALE = (CODE[n] for n in ("rays", "halo", "frame", "squeeze", "unscale"))
LINK, SPREAD, HALF, SETTLE = (CODE[n] for n in ("link", "spread", "half", "settle"))
SYMMETRIC, PERIODIC, EMBED, WRAP = (CODE[n] for n in ("symmetric", "periodic", "embed", "wrap"))
STRETCH, TILE, MIRROR_APART = (CODE[n] for n in ("stretch", "tile", "mirror_apart"))
CUT, COLOURS, OBJECTS, ROWS = (CODE[n] for n in ("cut", "colours", "objects", "rows"))
COLUMNS, MARKED, FALL = (CODE[n] for n in ("columns", "marked", "fall"))
PICK, PICK_UNIQUE, LAYER = (CODE[n] for n in ("pick", "pick_unique", "layer"))
BOX, BLOCKS, REACH, SPIN, UNIT, REGIONS = (CODE[n] for n in ("box", "blocks", "reach", "spin", "unit", "regions"))
LINE_UP, OVERLAP, KEEP, KEEP_OTHERS = (CODE[n] for n in ("line_up", "overlap", "keep", "keep_others"))


class Store(NamedTuple):
    """Values of a search. A value is an image or a list of images of one grid pair; equal values are one."""

    cells: NDArray[np.uint8]
    """Cells of all images."""
    images: NDArray[np.int64]
    """[images, 5]: h, w, x, y, first cell."""
    values: NDArray[np.int64]
    """[values, 4]: first image, number of images, whether it is a list, grid pair."""
    hashes: NDArray[np.uint64]
    """[values]."""
    slots: NDArray[np.int32]
    """Open hash table of values, -1 where free; its size is a power of two."""
    memo: NDArray[np.int32]
    """[rows, functions]: value + 2 that a function gives, 1 where it is undefined, 0 where not yet called."""
    memo_row: NDArray[np.int32]
    """[values]: row of `memo`, from 1; 0 for none yet."""
    used: NDArray[np.int64]
    """Number of cells, images, values, memo rows used; calls of functions."""
    sizes: NDArray[np.int64]
    """[pairs, 4]: h, w of the input, h, w of the output, 0 where the latter is unknown."""
    limits: NDArray[np.int64]
    """Largest area of an image; largest area of a list."""
    work: NDArray[np.int32]
    """Scratch of the kernels."""
    heads: NDArray[np.int64]
    """Scratch: heads of a new list, [MAX_LIST, 5]."""
    numbers: NDArray[np.int64]
    """Scratch: measures of a list and their order, [2, MAX_LIST]."""
    functions: NDArray[np.int64]
    """Table of the functions (`functions.table`)."""


CELLS, IMAGES, VALUES, MEMO_ROWS, CALLS = 0, 1, 2, 3, 4
"""Places in `Store.used`."""
FULL = -2
"""Value returned where the store has no room left."""


@inlined_kernel
def image_image(
    code: Any, a: Any, b: Any, src: Any, h: Any, w: Any, x: Any, y: Any, size_h: Any, size_w: Any, dst: Any, work: Any
) -> Any:
    """Call a function image -> image; returns h, w, x, y, h being -1 where it is undefined."""
    n = h * w
    if code == ONLY:
        return one.only(src, h, w, x, y, a, dst)
    if code == DROP:
        return one.drop(src, h, w, x, y, a, dst)
    if code == RECOLOUR:
        return one.recolour(src, h, w, x, y, a, dst)
    if code == NEGATIVE:
        return one.negative(src, h, w, x, y, dst)
    if code == CROP:
        return one.crop(src, h, w, x, y, dst)
    if code in (PLACE, MAIN_COLOUR):
        dst[0] = one.main_colour(src, n, 1)
        return (1, 1, x, y) if code == PLACE else (1, 1, 0, 0)
    if code in (BLANK_AT_ORIGIN, BLANK):
        one.paint(dst, n, np.int64(0))
        return (h, w, x, y) if code == BLANK else (h, w, 0, 0)
    if code in (HULL, HULL_AT_ORIGIN):
        one.paint(dst, n, one.main_colour(src, n, 1))
        return (h, w, x, y) if code == HULL else (h, w, 0, 0)
    if code == ORIGIN:
        for i in range(n):
            dst[i] = src[i]
        return h, w, 0, 0
    if code == SILHOUETTE:
        return one.silhouette(src, h, w, x, y, dst, work)
    if code == ENCLOSED:
        return one.enclosed(src, h, w, x, y, dst, work)
    if code in (OUTER, INNER):
        return one.outer(src, h, w, x, y, code == INNER, dst, work)
    if code == CENTRE:
        h2, w2 = 2 - h % 2, 2 - w % 2
        if n == 0:
            return -1, 0, 0, 0
        one.paint(dst, h2 * w2, np.int64(1))
        return h2, w2, x + (w - w2) // 2, y + (h - h2) // 2
    if code == TURN:
        return motion.turn(src, h, w, x, y, a, dst)
    if code == TURN_OVER:
        return motion.turn_over(src, h, w, x, y, dst)
    if code == COUNT:
        total = 0
        if a == 0:
            total = one.count_cells(src, n)
        elif a == 1:
            total = one.count_bits(one.colour_bits(src, n) & ~1)
        else:
            total = one.count_parts(src, h, w, work)
        h2, w2 = (total if b != 1 else 1), (total if b != 2 else 1)
        if total > MAX_SIDE or h2 * w2 > dst.size:
            return -1, 0, 0, 0
        one.paint(dst, h2 * w2, one.main_colour(src, n, 1))
        return h2, w2, 0, 0
    if code == RAYS:
        return motion.rays(src, h, w, x, y, a, dst)
    if code == HALO:
        return one.halo(src, h, w, x, y, a, dst)
    if code == FRAME:
        if (h + 2) * (w + 2) > dst.size:
            return -1, 0, 0, 0
        return one.frame(src, h, w, x, y, a if a > 0 else one.main_colour(src, n, 1), dst)
    if code in (SQUEEZE, UNSCALE):
        return one.squeeze(src, h, w, code == UNSCALE, dst, work)
    if code == LINK:
        return motion.links(src, h, w, x, y, a, dst)
    if code == SPREAD:
        return motion.spread(src, h, w, x, y, one.main_colour(src, n, 1) if a > 0 else 0, dst, work)
    if code == HALF:
        return motion.half(src, h, w, x, y, a, dst)
    if code == SETTLE:
        return motion.settle(src, h, w, x, y, a, dst)
    if code == SYMMETRIC:
        return motion.symmetric(src, h, w, x, y, a, dst)
    if code == PERIODIC:
        if 2 * n > dst.size:
            return -1, 0, 0, 0
        return tiling.periodic(src, h, w, x, y, a > 0, dst)
    if code == BOX:
        return one.box(src, h, w, x, y, dst)
    if code == BLOCKS:
        return one.blocks(src, h, w, x, y, dst)
    if code == REACH:
        return motion.reach(src, h, w, x, y, one.main_colour(src, n, 1), dst)
    if code == SPIN:
        if 4 * n > dst.size:
            return -1, 0, 0, 0
        return motion.spin(src, h, w, dst)
    if code == UNIT:
        return tiling.unit(src, h, w, x, y, dst)
    if EMBED <= code <= MIRROR_APART:
        if size_h * size_w == 0:
            return -1, 0, 0, 0
        if code == EMBED:
            return tiling.embed(src, h, w, x, y, size_h, size_w, dst)
        if code == WRAP:
            return tiling.wrap(src, h, w, size_h, size_w, dst)
        if code == STRETCH:
            return tiling.stretch(src, h, w, size_h, size_w, dst, work)
        kind = code - TILE
        return tiling.tile(src, h, w, x, y, kind % 2, kind >= 2, size_h, size_w, dst)
    for i in range(n):  # move
        dst[i] = src[i]
    return h, w, x + a, y + b


@inlined_kernel
def image_list(
    code: Any, a: Any, b: Any, src: Any, h: Any, w: Any, x: Any, y: Any, dst: Any, heads: Any, work: Any
) -> Any:
    """Call a function image -> list; returns the number of images, -1 where it is undefined."""
    if h * w == 0:
        return -1
    if code == CUT:
        return split.cut(src, h, w, x, y, dst, heads, work)
    if code == COLOURS:
        return split.colours(src, h, w, x, y, dst, heads)
    if code == OBJECTS:
        return split.objects(src, h, w, x, y, a, b, dst, heads, work)
    if code in (ROWS, COLUMNS):
        return split.lines(src, h, w, x, y, code == COLUMNS, dst, heads)
    if code == REGIONS:
        return split.regions(src, h, w, x, y, dst, heads, work)
    if code == MARKED:
        return split.marked(src, h, w, x, y, dst, heads)
    return split.fall(src, h, w, x, y, a, dst, heads, work)


@inlined_kernel
def list_image(code: Any, a: Any, cells: Any, heads: Any, n: Any, max_area: Any, dst: Any, numbers: Any) -> Any:
    """Call a function list -> image other than a choice; returns h, w, x, y."""
    if code == LAYER:
        return join.layer(cells, heads, n, max_area, dst, numbers[0], numbers[1])
    if code == LINE_UP:
        return join.line_up(cells, heads, n, a, max_area, dst, numbers[0], numbers[1])
    return join.overlap(cells, heads, n, a, dst)


@inner_kernel
def intern(store: Any, pair: Any, is_list: Any, first: Any, number: Any, cells_end: Any) -> Any:
    """Return the value of the images from `first` on, which lie behind the last used one; a new one only where no equal
    value is kept. FULL where no value is left."""
    images, cells = store.images, store.cells
    state = mix(np.uint64(pair * 4 + is_list * 2 + 1))
    for k in range(first, first + number):
        h, w = images[k, 0], images[k, 1]
        state = mix(state ^ np.uint64(((h * 128 + w) * 1024 + images[k, 2] + 512) * 1024 + images[k, 3] + 512))
        word: Any = 0
        filled = 0
        for i in range(images[k, 4], images[k, 4] + h * w):
            word = (word << 4) | np.int64(cells[i])
            filled += 1
            if filled == 15:
                state = mix(state ^ np.uint64(word))
                word, filled = 0, 0
        state = mix(state ^ np.uint64(word))
    mask = store.slots.size - 1
    slot = np.int64(state & np.uint64(mask))
    while store.slots[slot] >= 0:
        value = np.int64(store.slots[slot])
        if store.hashes[value] == state:
            return value
        slot = (slot + 1) & mask
    value = store.used[VALUES]
    if value >= store.values.shape[0]:
        return FULL
    store.slots[slot] = value
    store.hashes[value] = state
    store.values[value, 0], store.values[value, 1] = first, number
    store.values[value, 2], store.values[value, 3] = is_list, pair
    store.used[VALUES] = value + 1
    store.used[IMAGES] = first + number
    store.used[CELLS] = cells_end
    return value


@inlined_kernel
def call(store: Any, function: Any, value: Any) -> Any:
    """Return the value that a function gives for a value; -1 where it is undefined, FULL where the store is full."""
    code, a, b = store.functions[function, 0], store.functions[function, 1], store.functions[function, 2]
    type_of, whose = store.functions[function, 3], store.functions[function, 5]
    first, number = store.values[value, 0], store.values[value, 1]
    is_list, pair = store.values[value, 2], store.values[value, 3]
    if (type_of >= 2) != (is_list != 0) and type_of != 0:
        return -1
    store.used[CALLS] += 1
    images, max_area = store.images, store.limits[0]
    new, start = store.used[IMAGES], store.used[CELLS]
    if new + split.MAX_LIST >= images.shape[0] or start + 2 * store.limits[1] >= store.cells.size:
        return FULL
    size_h, size_w = 0, 0
    if whose > 0:
        size_h, size_w = store.sizes[pair, 2 * whose - 2], store.sizes[pair, 2 * whose - 1]
    if type_of == 0:
        end = start
        for k in range(number):
            h, w, x = images[first + k, 0], images[first + k, 1], images[first + k, 2]
            y, at = images[first + k, 3], images[first + k, 4]
            dst = store.cells[end : end + 2 * max_area]
            h2, w2, x2, y2 = image_image(
                code, a, b, store.cells[at : at + h * w], h, w, x, y, size_h, size_w, dst, store.work
            )
            if h2 < 0 or h2 > MAX_SIDE or w2 > MAX_SIDE or h2 * w2 > max_area or abs(x2) > 99 or abs(y2) > 99:
                return -1
            images[new + k, 0], images[new + k, 1], images[new + k, 2] = h2, w2, x2
            images[new + k, 3], images[new + k, 4] = y2, end
            end += h2 * w2
            if end - start > store.limits[1] - 2 * max_area:
                return -1
        return intern(store, pair, is_list, new, number, end)
    if type_of == 1:
        h, w, x = images[first, 0], images[first, 1], images[first, 2]
        y, at = images[first, 3], images[first, 4]
        dst = store.cells[start : start + store.limits[1]]
        found = image_list(code, a, b, store.cells[at : at + h * w], h, w, x, y, dst, store.heads, store.work)
        if found <= 0:
            return -1
        end = start
        for k in range(found):
            for column in range(5):
                images[new + k, column] = store.heads[k, column]
            images[new + k, 4] += start
            end = max(end, images[new + k, 4] + images[new + k, 0] * images[new + k, 1])
        return intern(store, pair, np.int64(1), new, np.int64(found), end)
    heads = images[first : first + number]
    if code in (PICK, KEEP, KEEP_OTHERS, PICK_UNIQUE):
        chosen = 0
        numbers = store.numbers[0]
        if code == PICK_UNIQUE:
            chosen = join.pick_unique(store.cells, heads, number)
            if chosen < 0:
                return -1
        else:
            dst = store.cells[start : start + 2 * max_area]
            join.measure(store.cells, heads, number, a, numbers, dst, store.work)
            for k in range(1, number):
                if numbers[k] > numbers[chosen]:
                    chosen = k
        kept = 0
        for k in range(number):
            alike = numbers[k] == numbers[chosen]
            wanted = k == chosen if code in (PICK, PICK_UNIQUE) else alike == (code == KEEP)
            if wanted:
                for column in range(5):
                    images[new + kept, column] = images[first + k, column]
                kept += 1
        if kept == 0:
            return -1
        return intern(store, pair, np.int64(type_of == 3), new, np.int64(kept), start)
    dst = store.cells[start : start + 2 * max_area]
    h2, w2, x2, y2 = list_image(code, a, store.cells, heads, number, max_area, dst, store.numbers)
    if h2 < 0 or h2 > MAX_SIDE or w2 > MAX_SIDE or abs(x2) > 99 or abs(y2) > 99:
        return -1
    images[new, 0], images[new, 1], images[new, 2], images[new, 3], images[new, 4] = h2, w2, x2, y2, start
    return intern(store, pair, np.int64(0), new, np.int64(1), start + h2 * w2)
