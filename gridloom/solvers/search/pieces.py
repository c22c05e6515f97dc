"""Pieces: states whose images have the outputs' sizes, as cells and as bits, and their composition in layers.

The cells of a piece are those of all pairs one after the other, uint8 [cells]; the bits are those of the demonstrations
alone, each from a new word of 64 on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import inner_kernel, mix, plain_kernel

UNKNOWN = 10
"""Cell that no layer has set."""
SHAPE, GROUND, ALL = 0, 1, 2
"""Which cells a layer sets: those of its piece other than background, those of background, all."""
MODES = ("shape", "ground", "all")
MAX_LAYERS = 10
"""Layers of a composition."""
ORIGIN_COST, EMBED_COST = 6, 4
"""Cost of moving a state to the origin, of embedding it in the output's size; recolouring has its function's."""


@plain_kernel
def render(store: Any, states: Any, state: Any, at_origin: Any, colour: Any, sizes: Any, starts: Any, row: Any) -> Any:
    """Write a state's images, each embedded in its output's size, to `row` (uint8, the cells of all pairs).

    Returns 1 where every image already has that size and place, 2 where some had to be embedded.
    """
    exact = 1
    for p in range(sizes.shape[0]):
        image = store.values[states.values[state, p], 0]
        h, w = store.images[image, 0], store.images[image, 1]
        x, y, first = store.images[image, 2], store.images[image, 3], store.images[image, 4]
        if at_origin:
            x, y = 0, 0
        h2, w2, start = sizes[p, 0], sizes[p, 1], starts[p]
        if h != h2 or w != w2 or x != 0 or y != 0:
            exact = 2
            for i in range(h2 * w2):
                row[start + i] = 0
        for r in range(max(0, -y), min(h, h2 - y)):
            for c in range(max(0, -x), min(w, w2 - x)):
                cell = store.cells[first + r * w + c]
                if colour > 0 and cell != 0:
                    cell = np.uint8(colour)
                row[start + (r + y) * w2 + c + x] = cell
    return exact


@plain_kernel
def gather(
    store: Any,
    states: Any,
    order: Any,
    colours: Any,
    sizes: Any,
    starts: Any,
    recolour_cost: Any,
    rows: Any,
    made: Any,
    slots: Any,
    hashes: Any,
) -> Any:
    """Collect the pieces of the image states, equal ones once, as those states stand or at the origin, with their
    colours or one of `colours`.

    Args:
        order: states by ascending cost.
        rows: uint8 [capacity, cells], filled.
        made: int64 [capacity, 4], filled with state, whether at the origin, colour or 0, cost.
        slots: int32, an open hash table of pieces, all -1; its size is a power of two and at least twice the capacity.
        hashes: uint64 [capacity], scratch.

    Returns the number of pieces.
    """
    capacity, cells = rows.shape
    mask = slots.size - 1
    number = 0
    for place in range(order.size):
        state = order[place]
        if states.done[state] < 0 or store.values[states.values[state, 0], 2] != 0:
            continue
        moved = False
        for p in range(sizes.shape[0]):
            image = store.values[states.values[state, p], 0]
            if store.images[image, 2] != 0 or store.images[image, 3] != 0:
                moved = True
        for at_origin in range(2):
            if at_origin and not moved:
                continue
            for k in range(-1, colours.size):
                if number >= capacity:
                    return number
                colour = np.int64(colours[k]) if k >= 0 else 0
                exact = render(store, states, state, at_origin, colour, sizes, starts, rows[number])
                cost = states.cost[state] + (recolour_cost if k >= 0 else 0)
                cost += (ORIGIN_COST if at_origin else 0) + (EMBED_COST if exact == 2 else 0)
                key = np.uint64(1)
                word = np.uint64(0)
                for i in range(cells):
                    word = (word << np.uint64(4)) ^ np.uint64(rows[number, i])
                    if i % 16 == 15:
                        key = mix(key ^ word)
                        word = np.uint64(0)
                key = mix(key ^ word)
                slot = np.int64(key & np.uint64(mask))
                known: Any = -1
                while slots[slot] >= 0:
                    if hashes[slots[slot]] == key:
                        known = np.int64(slots[slot])
                        break
                    slot = (slot + 1) & mask
                if known >= 0:
                    if cost < made[known, 3]:
                        made[known, 0], made[known, 1], made[known, 2], made[known, 3] = state, at_origin, colour, cost
                    continue
                slots[slot] = number
                hashes[number] = key
                made[number, 0], made[number, 1], made[number, 2], made[number, 3] = state, at_origin, colour, cost
                number += 1
    return number


@inner_kernel
def count_ones(word: Any) -> Any:
    """Return the number of bits set in a uint64."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@plain_kernel
def make_bits(rows: Any, number: Any, target: Any, starts: Any, words: Any, ground: Any, wrong: Any, fits: Any) -> None:
    """Set bits of pieces: `ground` where a cell is background, `wrong` where it differs from the target.

    Args:
        target: uint8, the cells of the demonstrations' outputs, at `starts`.
        words: int64 [demonstrations + 1], first word of each.
        ground, wrong: uint64 [pieces, words], filled.
        fits: int64 [pieces], filled with the demonstrations that the piece equals, as bits.
    """
    demos = words.size - 1
    for i in range(number):
        fits[i] = 0
        for p in range(demos):
            right = True
            start, end = starts[p], starts[p + 1]
            for word in range(words[p], words[p + 1]):
                begin = start + (word - words[p]) * 64
                blank, other = np.uint64(0), np.uint64(0)
                for k in range(min(64, end - begin)):
                    cell = rows[i, begin + k]
                    blank |= np.uint64(cell == 0) << np.uint64(k)
                    other |= np.uint64(cell != target[begin + k]) << np.uint64(k)
                ground[i, word], wrong[i, word] = blank, other
                right &= other == np.uint64(0)
            if right:
                fits[i] |= 1 << p


@plain_kernel
def stack_layers(
    ground: Any, wrong: Any, costs: Any, limit: Any, open_: Any, words: Any, subset: Any, care: Any, layers: Any
) -> Any:
    """Choose layers greedily: each is right on every cell that it sets first, in all demonstrations of `subset`, and
    sets the most cells of demonstration `care`; the earlier piece of two alike.

    Args:
        costs: of the pieces; those above `limit` are left out.
        open_: uint64 [words], bits of the cells of `subset` that no layer has set; changed.
        layers: int64 [MAX_LAYERS, 2], filled with piece and mode.

    Returns the number of layers.
    """
    number = 0
    demos = words.size - 1
    first, last = words[care], words[care + 1]
    while number < MAX_LAYERS:
        most, piece, mode = 0, -1, 0
        for i in range(costs.size):
            if costs[i] > limit:
                continue
            for m in range(3):
                count = 0
                for k in range(first, last):
                    active = open_[k]
                    if m == 0:
                        active &= ~ground[i, k]
                    elif m == 1:
                        active &= ground[i, k]
                    if active & wrong[i, k]:
                        count = -1
                        break
                    count += count_ones(active)
                if count <= most:
                    continue
                good = True
                for p in range(demos):
                    if p == care or not subset >> p & 1:
                        continue
                    for k in range(words[p], words[p + 1]):
                        active = open_[k] & wrong[i, k]
                        if m == 0:
                            active &= ~ground[i, k]
                        elif m == 1:
                            active &= ground[i, k]
                        if active:
                            good = False
                            break
                    if not good:
                        break
                if good:
                    most, piece, mode = count, i, m
        if piece < 0:
            return number
        left = False
        for k in range(open_.size):
            if mode == 0:
                open_[k] &= ground[piece, k]
            elif mode == 1:
                open_[k] &= ~ground[piece, k]
            else:
                open_[k] = 0
            if open_[k] and first <= k < last:
                left = True
        layers[number, 0], layers[number, 1] = piece, mode
        number += 1
        if not left:
            return number
    return number


@plain_kernel
def lay(rows: Any, layers: Any, number: Any, row: Any) -> None:
    """Write the cells of a composition: the first layer that sets a cell decides it, UNKNOWN where none does."""
    for i in range(row.size):
        row[i] = UNKNOWN
        for k in range(number):
            cell, mode = rows[layers[k, 0], i], layers[k, 1]
            if mode == 2 or (mode == 0) == (cell != 0):
                row[i] = cell
                break
