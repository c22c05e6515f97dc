"""numba kernels of ARC rows: hash and draw views, render grids to tokens, crop, invert views, select rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import below, derive, dihedral_cell, kernel, mix, shuffle


@kernel
def colour_sums(cells: Any, start: Any, rows: Any, columns: Any, grids: Any) -> Any:
    """Return uint64 [8, len(grids), 10]: for each dihedral id, grid and colour the sum of position hashes."""
    sums = np.zeros((8, grids.size, 10), dtype=np.uint64)
    for i in range(grids.size):
        grid = grids[i]
        h, w = rows[grid], columns[grid]
        for dihedral in range(8):
            for r in range(h):
                for c in range(w):
                    tr, tc = dihedral_cell(dihedral, r, c, h, w)
                    colour = cells[start[grid] + r * w + c]
                    sums[dihedral, i, colour] += mix(np.uint64(tr * 64 + tc))
    return sums


@kernel
def view_hash(
    sums: Any, weights: Any, rows: Any, columns: Any, inputs: Any, outputs: Any, dihedral: Any, colours: Any
) -> Any:
    """Return a uint64 hash of a task under a view, as a multiset of its pairs; `outputs` is -1 for a test input."""
    total = np.uint64(0)
    for item in range(inputs.size):
        state = np.uint64(0)
        for side in range(2):
            grid = inputs[item] if side == 0 else outputs[item]
            if grid < 0:
                state = mix(state)
                continue
            h, w = rows[grid], columns[grid]
            if dihedral == 1 or dihedral == 3 or dihedral >= 6:
                h, w = w, h
            value = np.uint64(h * 64 + w)
            for colour in range(10):
                value += sums[dihedral, grid, colour] * weights[colours[colour]]
            state = mix(state ^ mix(value))
        total += mix(state)
    return total


@kernel
def draw_views(
    sums: Any, rows: Any, columns: Any, inputs: Any, outputs: Any, key: Any, copies: Any, dihedral: Any, permute: Any
) -> Any:
    """Return up to copies + 1 views of distinct content, identity first: dihedral uint8 [n], colours uint8 [n, 10].

    Pools of up to 4,096 views are shuffled and enumerated; larger pools are sampled without repeats. The views for
    fewer copies are a prefix of the views for more.
    """
    # no array expressions here: numba takes seconds to compile them
    used = np.zeros(10, dtype=np.uint8)
    for grid in range(rows.size):
        for colour in range(1, 10):
            if sums[0, grid, colour] != np.uint64(0):
                used[colour] = 1
    num_turns = 8 if dihedral else 1
    num_maps = 1
    factor = 9
    for colour in range(10):
        if permute and used[colour] == 1:
            num_maps *= factor
            factor -= 1
    pool = num_turns * num_maps
    walk = pool <= 4096
    order = np.empty(pool if walk else 0, dtype=np.int64)
    for i in range(order.size):
        order[i] = i
    if walk:
        shuffle(derive(key, 1), order)
    trials = pool if walk else 8 * copies + 4096

    capacity = 16
    while capacity < 4 * (copies + 1):
        capacity *= 2
    seen = np.zeros(capacity, dtype=np.uint64)
    found_turns = np.zeros(copies + 1, dtype=np.uint8)
    found_maps = np.zeros((copies + 1, 10), dtype=np.uint8)
    turn = 0
    image = np.zeros(10, dtype=np.uint8)
    left = np.zeros(10, dtype=np.uint8)
    weights = np.zeros(10, dtype=np.uint64)
    for colour in range(10):
        weights[colour] = mix(np.uint64(colour + 1000)) | np.uint64(1)
    num = 0
    for trial in range(-1, trials):
        if num > copies:
            break
        for colour in range(10):
            image[colour] = colour
        if trial >= 0:
            state = derive(key, trial + 2)
            turn = order[trial] % num_turns if walk else below(state, num_turns)
            if permute and walk:
                # the digits of the map number in mixed radix select the image of each used colour
                number = order[trial] // num_turns
                for i in range(9):
                    left[i] = i + 1
                num_left = 9
                for once in range(2):
                    for colour in range(1, 10):
                        if used[colour] == once:
                            continue
                        choice = 0
                        if once == 0:
                            choice = number % num_left
                            number //= num_left
                        image[colour] = left[choice]
                        for i in range(choice, num_left - 1):
                            left[i] = left[i + 1]
                        num_left -= 1
            elif permute:
                shuffle(derive(state, 1), image[1:])
        value = view_hash(sums, weights, rows, columns, inputs, outputs, turn, image)
        if value == np.uint64(0):
            value = np.uint64(1)
        slot = np.int64(value & np.uint64(capacity - 1))
        while seen[slot] != np.uint64(0) and seen[slot] != value:
            slot = (slot + 1) & (capacity - 1)
        if seen[slot] == value:
            continue
        seen[slot] = value
        found_turns[num] = turn
        for colour in range(10):
            found_maps[num, colour] = image[colour]
        num += 1
    return found_turns[:num], found_maps[:num]


@kernel
def render(
    cells: Any,
    start: Any,
    rows: Any,
    columns: Any,
    grids: Any,
    turns: Any,
    colours: Any,
    offsets: Any,
    canvas: Any,
    out: Any,
) -> None:
    """Write the tokens of each grid under its view at its offset into `out` uint8 [B, canvas * canvas], zeros before.

    The rows of grids of index -1 stay 0. EOS fills the cells directly below and right of the grid that are on the
    canvas; the corner stays PAD. Callers check that the grid fits.
    """
    for b in range(grids.size):
        grid = grids[b]
        if grid < 0:
            continue
        h, w = rows[grid], columns[grid]
        turn = turns[b]
        r0, c0 = offsets[b, 0], offsets[b, 1]
        for r in range(h):
            for c in range(w):
                tr, tc = dihedral_cell(turn, r, c, h, w)
                out[b, (r0 + tr) * canvas + c0 + tc] = colours[b, cells[start[grid] + r * w + c]] + 2
        if turn == 1 or turn == 3 or turn >= 6:
            h, w = w, h
        if r0 + h < canvas:
            for c in range(w):
                out[b, (r0 + h) * canvas + c0 + c] = 1
        if c0 + w < canvas:
            for r in range(h):
                out[b, (r0 + r) * canvas + c0 + w] = 1


@kernel
def crop_sizes(tokens: Any, canvas: Any) -> Any:
    """Return rows and columns of the largest rectangle of colour tokens anchored at (0, 0): int32 [B, 2]; of equal
    areas the one with fewer rows."""
    sizes = np.zeros((tokens.shape[0], 2), dtype=np.int32)
    for b in range(tokens.shape[0]):
        width = canvas
        best = 0
        for r in range(canvas):
            for c in range(width):
                token = tokens[b, r * canvas + c]
                if token < 2 or token > 11:
                    width = c
                    break
            if width == 0:
                break
            if (r + 1) * width > best:
                best = (r + 1) * width
                sizes[b, 0] = r + 1
                sizes[b, 1] = width
    return sizes


@kernel
def corners(tokens: Any, canvas: Any) -> Any:
    """Return row and column of the first colour token of uint8 [B, canvas * canvas]: int32 [B, 2], 0 for none."""
    found = np.zeros((tokens.shape[0], 2), dtype=np.int32)
    for b in range(tokens.shape[0]):
        for place in range(canvas * canvas):
            if tokens[b, place] >= 2:
                found[b, 0] = place // canvas
                found[b, 1] = place % canvas
                break
    return found


@kernel
def cut(tokens: Any, sizes: Any, start: Any, canvas: Any, out: Any) -> None:
    """Write the cropped grids as colours into the flat array `out`, each from its `start`."""
    two = np.uint8(2)
    for b in range(tokens.shape[0]):
        place, w = start[b], sizes[b, 1]
        for r in range(sizes[b, 0]):
            # slices with local bounds are vectorised: sixteen cells at a time
            source, target = tokens[b, r * canvas : r * canvas + w], out[place : place + w]
            for c in range(w):
                target[c] = source[c] - two
            place += w


@kernel
def restore(tokens: Any, sizes: Any, turns: Any, colours: Any, start: Any, canvas: Any, out: Any) -> None:
    """Write the cropped grids, transformed and recoloured, into the flat array `out`: the inverse of `render`."""
    for b in range(tokens.shape[0]):
        h, w = sizes[b, 0], sizes[b, 1]
        turn = turns[b]
        width = h if turn == 1 or turn == 3 or turn >= 6 else w
        for r in range(h):
            for c in range(w):
                tr, tc = dihedral_cell(turn, r, c, h, w)
                out[start[b] + tr * width + tc] = colours[b, tokens[b, r * canvas + c] - 2]


@kernel
def first_above(ends: Any, number: Any) -> Any:
    """Return the index of the first of ascending `ends` that is greater than `number`."""
    low, high = 0, ends.size
    while low < high:
        middle = (low + high) // 2
        if ends[middle] > number:
            high = middle
        else:
            low = middle + 1
    return low


@kernel
def pick_rows(
    numbers: Any,
    epoch: Any,
    key: Any,
    order: Any,
    ends: Any,
    pair_start: Any,
    view_start: Any,
    turns: Any,
    room: Any,
    translate: Any,
    out: Any,
) -> None:
    """Fill `out` int64 [n, 5]: task, view, pair, row offset, column offset of each row number of one epoch.

    An epoch visits every task once in `order`, under one view, with all of its pairs in random order; `ends` are the
    running pair counts in that order. `room` int64 [pairs, 2] holds the largest row and column offset of a pair under
    the identity.
    """
    for n in range(numbers.size):
        place = first_above(ends, numbers[n])
        task = order[place]
        first, last = pair_start[task], pair_start[task + 1]
        num_pairs = last - first
        visit = derive(derive(key, epoch), task)
        view = below(derive(visit, 0), view_start[task + 1] - view_start[task])
        pairs = np.empty(num_pairs, dtype=np.int64)
        for i in range(num_pairs):
            pairs[i] = i
        shuffle(derive(visit, 1), pairs)
        pair = pairs[numbers[n] - (ends[place] - num_pairs)]
        out[n, 0], out[n, 1], out[n, 2] = task, view, pair
        out[n, 3] = out[n, 4] = 0
        # as in the reference builder, one pair per visit stays at offset (0, 0), where test inputs are placed
        if translate and pair != below(derive(visit, 2), num_pairs):
            turn = turns[view_start[task] + view]
            across = 1 if turn == 1 or turn == 3 or turn >= 6 else 0
            out[n, 3] = below(derive(visit, 3 + 2 * pair), room[first + pair, across] + 1)
            out[n, 4] = below(derive(visit, 4 + 2 * pair), room[first + pair, 1 - across] + 1)
