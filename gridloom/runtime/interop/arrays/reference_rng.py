"""numba kernels of numpy's legacy global random stream (MT19937, masked rejection): reproduce the reference's draws."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.arc.kernels import view_hash
from gridloom.runtime.data.kernels import kernel, mix


def seeded(seed: int) -> NDArray[np.uint32]:
    """Return the state after np.random.seed(seed): uint32 [625], the key and the position."""
    _, key, position, *_ = np.random.RandomState(seed).get_state(legacy=True)
    return np.concatenate([np.asarray(key, dtype=np.uint32), np.array([position], dtype=np.uint32)])


@kernel
def next32(state: Any) -> Any:
    """Return the next 32 random bits."""
    if state[624] >= 624:
        for i in range(624):
            y = (state[i] & np.uint32(0x80000000)) | (state[(i + 1) % 624] & np.uint32(0x7FFFFFFF))
            value = state[(i + 397) % 624] ^ (y >> np.uint32(1))
            if y & np.uint32(1):
                value ^= np.uint32(0x9908B0DF)
            state[i] = value
        state[624] = 0
    y = state[state[624]]
    state[624] += np.uint32(1)
    y ^= y >> np.uint32(11)
    y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
    y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
    return np.uint32(y ^ (y >> np.uint32(18)))


@kernel
def up_to(state: Any, most: Any) -> Any:
    """Return an integer in [0, most], equal to randint(0, most + 1); draws no bits for most = 0."""
    if most == 0:
        return 0
    mask = 1
    while mask <= most:
        mask *= 2
    mask -= 1
    while True:
        value = np.int64(next32(state)) & mask
        if value <= most:
            return value


@kernel
def legacy_shuffle(state: Any, order: Any) -> None:
    """Permute a one-dimensional array in place, as np.random.shuffle does."""
    for i in range(order.size - 1, 0, -1):
        j = up_to(state, i)
        order[i], order[j] = order[j], order[i]


@kernel
def reference_views(state: Any, sums: Any, rows: Any, columns: Any, inputs: Any, outputs: Any, copies: Any) -> Any:
    """Return the reference builder's variants of a task: dihedral uint8 [n], colours uint8 [n, 10]; identity first."""
    capacity = 16
    while capacity < 4 * (copies + 1):
        capacity *= 2
    seen = np.zeros(capacity, dtype=np.uint64)
    turns = np.zeros(copies + 1, dtype=np.uint8)
    maps = np.zeros((copies + 1, 10), dtype=np.uint8)
    image = np.zeros(10, dtype=np.uint8)
    weights = np.zeros(10, dtype=np.uint64)
    for colour in range(10):
        image[colour] = colour
        weights[colour] = mix(np.uint64(colour + 1000)) | np.uint64(1)
    num = 0
    for trial in range(-1, 5 * copies):
        if num > copies and trial >= 0:
            break
        turn = 0
        if trial >= 0:
            turn = up_to(state, 7)
            for colour in range(10):
                image[colour] = colour
            legacy_shuffle(state, image[1:])
        value = view_hash(sums, weights, rows, columns, inputs, outputs, turn, image)
        if value == np.uint64(0):
            value = np.uint64(1)
        slot = np.int64(value & np.uint64(capacity - 1))
        while seen[slot] != np.uint64(0) and seen[slot] != value:
            slot = (slot + 1) & (capacity - 1)
        if seen[slot] == value:
            continue
        seen[slot] = value
        turns[num] = turn
        for colour in range(10):
            maps[num, colour] = image[colour]
        num += 1
    return turns[:num], maps[:num]


@kernel
def reference_offsets(state: Any, turns: Any, heights: Any, widths: Any, canvas: Any, translate: Any, out: Any) -> None:
    """Fill `out` int32 [puzzles * pairs, 2] with the reference builder's offset of each pair of each puzzle of a group.
    `heights` and `widths` are those of the larger of input and output. One pair per puzzle stays at offset (0, 0).
    """
    pairs = heights.size
    for puzzle in range(turns.size):
        stay = up_to(state, pairs - 1)
        for pair in range(pairs):
            row = puzzle * pairs + pair
            out[row, 0] = 0
            out[row, 1] = 0
            if translate and pair != stay:
                h, w = heights[pair], widths[pair]
                turn = turns[puzzle]
                if turn == 1 or turn == 3 or turn >= 6:
                    h, w = w, h
                out[row, 0] = up_to(state, canvas - h)
                out[row, 1] = up_to(state, canvas - w)
