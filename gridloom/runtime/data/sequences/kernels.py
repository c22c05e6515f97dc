"""numba kernels that fill batches of the sequence tasks. Row b depends only on keys[b]; callers zero the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import below, derive, kernel, shuffle

IGNORE = -100
"""Label of a position that is not scored."""
END = 10
"""Class of a position after the last digit of a sum."""
EOS, PLUS, DIGIT0 = 2, 3, 4
"""Tokens of the string tasks; PAD is 0, BOS 1."""
GATES = (0b1000, 0b0100, 0b0010, 0b0110, 0b1110, 0b0001, 0b1001, 0b1101, 0b1011, 0b0111)
"""NOR, Xq, ABJ, XOR, NAND, AND, XNOR, if/then, then/if, OR: bit 3 - 2P - Q is the output for inputs P and Q."""


@kernel
def unit(key: Any) -> Any:
    """Return a float in (0, 1) with 53 random bits."""
    return (np.float64(key >> np.uint64(11)) + 0.5) / 9007199254740992.0


@kernel
def fill_parity(keys: Any, fewest: Any, random_places: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs float32 [B, bits], labels int64 [B] (odd number of +1), lengths int32 [B] (non-zero entries, uniform
    from `fewest` to bits)."""
    bits = inputs.shape[1]
    order = np.zeros(bits, dtype=np.int64)
    for b in range(keys.size):
        for i in range(bits):
            order[i] = i
        if random_places:
            shuffle(derive(keys[b], 1), order)
        lengths[b] = fewest + below(derive(keys[b], 0), bits - fewest + 1)
        for i in range(lengths[b]):
            if below(derive(keys[b], i + 2), 2):
                inputs[b, order[i]] = 1.0
                labels[b] = 1 - labels[b]
            else:
                inputs[b, order[i]] = -1.0


@kernel
def fill_addition(keys: Any, fixed: Any, digits: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs float32 [B, T, 10 * digits], labels int64 [B, T, K] (IGNORE at the first step), lengths int32 [B]."""
    numbers, width = labels.shape[1], labels.shape[2]
    for b in range(keys.size):
        lengths[b] = numbers if fixed else 1 + below(derive(keys[b], 0), numbers)
        total = 0
        for t in range(numbers):
            for i in range(width):
                labels[b, t, i] = IGNORE
            if t >= lengths[b]:
                continue
            state = derive(keys[b], t + 1)
            value = 0
            for i in range(1 + below(derive(state, 0), digits)):
                digit = below(derive(state, i + 1), 10)
                inputs[b, t, 10 * i + digit] = 1.0
                value = 10 * value + digit
            total += value
            if t == 0:
                continue
            size = 1
            while total >= 10**size:
                size += 1
            for i in range(width):
                labels[b, t, i] = total // 10 ** (size - 1 - i) % 10 if i < size else END


@kernel
def fill_copy(keys: Any, symbols: Any, backwards: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs and labels uint8 [B, length + 1]: symbols 3 and up, EOS, then PAD; lengths int32 [B] without EOS."""
    longest = inputs.shape[1] - 1
    for b in range(keys.size):
        lengths[b] = 1 + below(derive(keys[b], 0), longest)
        for i in range(lengths[b]):
            token = 3 + below(derive(keys[b], i + 1), symbols)
            inputs[b, i] = token
            labels[b, lengths[b] - 1 - i if backwards else i] = token
        inputs[b, lengths[b]] = EOS
        labels[b, lengths[b]] = EOS


@kernel
def fill_sort(keys: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs float32 [B, T, 2]: value, end flag; labels int64 [B, T]: indices by ascending value, then IGNORE."""
    longest = inputs.shape[1]
    for b in range(keys.size):
        lengths[b] = 2 + below(derive(keys[b], 0), longest - 1)
        for i in range(longest):
            labels[b, i] = IGNORE
        for i in range(lengths[b]):
            state = derive(keys[b], i + 1)
            radius = np.sqrt(-2.0 * np.log(unit(derive(state, 0))))
            inputs[b, i, 0] = radius * np.cos(2.0 * np.pi * unit(derive(state, 1)))
            place = i
            while place > 0 and inputs[b, labels[b, place - 1], 0] > inputs[b, i, 0]:
                labels[b, place] = labels[b, place - 1]
                place -= 1
            labels[b, place] = i
        inputs[b, lengths[b] - 1, 1] = 1.0


@kernel
def fill_logic(keys: Any, gates: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs float32 [B, T, 2 + 10 * gates], labels int64 [B, T], lengths int32 [B].

    A vector holds b0, b1 and gates; b(i + 1) = gate(b(i), b(i - 1)), and the last b is the target. From the second
    vector on b0 is the previous target, which the input omits.
    """
    steps = inputs.shape[1]
    for b in range(keys.size):
        lengths[b] = 1 + below(derive(keys[b], 0), steps)
        target = 0
        for t in range(steps):
            if t >= lengths[b]:
                labels[b, t] = IGNORE
                continue
            state = derive(keys[b], t + 1)
            older = target
            if t == 0:
                older = below(derive(state, 0), 2)
                inputs[b, t, 0] = older
            newer = below(derive(state, 1), 2)
            inputs[b, t, 1] = newer
            for g in range(1 + below(derive(state, 2), gates)):
                gate = below(derive(state, g + 3), 10)
                inputs[b, t, 2 + 10 * g + gate] = 1.0
                older, newer = newer, GATES[gate] >> (3 - 2 * newer - older) & 1
            target = newer
            labels[b, t] = target


@kernel
def fill_string_addition(keys: Any, terms: Any, digits: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs uint8 [B, L] (12+7), labels uint8 [B, K] (19, EOS, then PAD) and lengths int32 [B] of the inputs.

    Sums are added digit by digit, so that terms may be longer than an integer of 64 bits.
    """
    total = np.zeros(labels.shape[1], dtype=np.int64)  # digits of the sum, the last one first
    for b in range(keys.size):
        place = 0
        total[:] = 0
        for term in range(2 + below(derive(keys[b], 0), terms - 1)):
            state = derive(keys[b], term + 1)
            if term > 0:
                inputs[b, place] = PLUS
                place += 1
            size = 1 + below(derive(state, 0), digits)
            for i in range(size):
                # a one-digit number may be 0, a longer number does not start with 0
                low = 1 if i == 0 and size > 1 else 0
                digit = low + below(derive(state, i + 1), 10 - low)
                inputs[b, place] = DIGIT0 + digit
                place += 1
                total[size - 1 - i] += digit
        inputs[b, place] = EOS
        lengths[b] = place
        size = 1
        for i in range(total.size - 1):
            total[i + 1] += total[i] // 10
            total[i] %= 10
            if total[i] > 0:
                size = i + 1
        for i in range(size):
            labels[b, i] = DIGIT0 + total[size - 1 - i]
        labels[b, size] = EOS
