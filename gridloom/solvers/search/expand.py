"""Expansion of states in order of cost. A state is a value for each pair: demonstrations, then test inputs.

A state is one program applied to every pair; states with equal values are one, the cheapest program's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.kernels import inner_kernel, mix, plain_kernel
from gridloom.solvers.search.apply import FULL, MEMO_ROWS, Store, call, intern

MAX_COST = 200
"""Bound of a state's cost."""
NOT_CALLED = -2
"""What an entry of the memo less 2 is before the function was called."""


class States(NamedTuple):
    """States of a search, in order of discovery."""

    values: NDArray[np.int32]
    """[states, pairs]."""
    cost: NDArray[np.int32]
    """[states]."""
    parent: NDArray[np.int32]
    """[states]: state that it was made from; -1 for a given one."""
    function: NDArray[np.int32]
    """[states]: function that made it; number of the given one where there is no parent."""
    done: NDArray[np.int32]
    """[states]: how many of the listed functions have been tried."""
    after: NDArray[np.int32]
    """[states]: next state of the same cost in the queue, -1 for none."""
    slots: NDArray[np.int32]
    """Open hash table of states, -1 where free."""
    first: NDArray[np.int32]
    """[MAX_COST]: first queued state of each cost, -1 for none."""
    last: NDArray[np.int32]
    """[MAX_COST]: last queued state of each cost."""
    used: NDArray[np.int64]
    """Number of states; whether a limit was met."""


def make_states(capacity: int, pairs: int) -> States:
    """Return an empty table of states."""
    size = 1 << (2 * capacity - 1).bit_length()
    return States(
        values=np.empty((capacity, pairs), dtype=np.int32),
        cost=np.empty(capacity, dtype=np.int32),
        parent=np.empty(capacity, dtype=np.int32),
        function=np.empty(capacity, dtype=np.int32),
        done=np.zeros(capacity, dtype=np.int32),
        after=np.empty(capacity, dtype=np.int32),
        slots=np.full(size, -1, dtype=np.int32),
        first=np.full(MAX_COST, -1, dtype=np.int32),
        last=np.full(MAX_COST, -1, dtype=np.int32),
        used=np.zeros(2, dtype=np.int64),
    )


@inner_kernel
def enqueue(states: Any, state: Any) -> None:
    """Put a state at the end of the queue of its cost."""
    cost = states.cost[state]
    states.after[state] = -1
    if states.first[cost] < 0:
        states.first[cost] = state
    else:
        states.after[states.last[cost]] = state
    states.last[cost] = state


@plain_kernel
def add_state(states: Any, values: Any, cost: Any, parent: Any, function: Any) -> Any:
    """Keep a state and queue it, unless one with equal values is kept that is as cheap; -1 where there is no room.

    A dearer equal one that has not been expanded yet gets the new program.
    """
    pairs = values.size
    key = np.uint64(pairs)
    for p in range(pairs):
        key = mix(key ^ np.uint64(values[p]))
    mask = states.slots.size - 1
    slot = np.int64(key & np.uint64(mask))
    while states.slots[slot] >= 0:
        state = np.int64(states.slots[slot])
        equal = True
        for p in range(pairs):
            if states.values[state, p] != values[p]:
                equal = False
                break
        if equal:
            if cost < states.cost[state] and states.done[state] == 0:
                states.done[state] = -1  # its place in the dearer queue is void
                new = states.used[0]
                if new >= states.cost.size:
                    states.used[1] = 1
                    return -1
                states.slots[slot] = new
                break
            return state
        slot = (slot + 1) & mask
    state = states.used[0]
    if state >= states.cost.size:
        states.used[1] = 1
        return -1
    states.slots[slot] = state
    states.used[0] = state + 1
    for p in range(pairs):
        states.values[state, p] = values[p]
    states.cost[state], states.parent[state], states.function[state] = cost, parent, function
    states.done[state] = 0
    enqueue(states, state)
    return state


@plain_kernel
def expand(
    store: Any,
    states: Any,
    listed: Any,
    bound: Any,
    split_bound: Any,
    begin: Any,
    most: Any,
    once: Any,
    child: Any,
) -> Any:
    """Expand queued states in order of cost, by the functions `listed`, until `most` states are expanded.

    The calls of all functions are compiled into this one kernel, so that they are compiled once.

    Args:
        bound: a result costs at most so much; a split (image -> list) only `split_bound`, since a list is no answer.
        begin: queued states below this cost are passed over.
        once: try the functions on every state instead, in order of discovery, whatever they cost.
        child: int64 [pairs], filled with the values of the last call, -1 where it is undefined.

    Returns the cost reached: `bound` when the search is complete.
    """
    pairs = states.values.shape[1]
    expanded, place_of_once, known = 0, 0, states.used[0]
    cost = np.int64(begin)
    while True:
        state = np.int64(-1)
        start = np.int64(0)
        if once:
            if place_of_once == known:
                return bound
            state = np.int64(place_of_once)
            place_of_once += 1
            if states.done[state] < 0:
                continue
            cost = np.int64(states.cost[state])
        else:
            while cost < bound and states.first[cost] < 0:
                cost += 1
            if cost >= bound:
                return bound
            if expanded >= most or states.used[1] != 0:
                return cost
            state = np.int64(states.first[cost])
            states.first[cost] = states.after[state]
            start = np.int64(states.done[state])
            if start < 0:
                continue
        is_list = store.values[states.values[state, 0], 2]
        for place in range(start, listed.size):
            function = listed[place]
            kind = store.functions[function, 3]
            if kind != 0 and (kind >= 2) != (is_list != 0):
                continue
            total = cost + store.functions[function, 4]
            if not once and (total > bound or (kind == 1 and total > split_bound)):
                continue
            good = True
            for p in range(pairs):
                value = np.int64(states.values[state, p])
                row = np.int64(store.memo_row[value])
                if row == 0 and store.used[MEMO_ROWS] + 1 < store.memo.shape[0]:
                    store.used[MEMO_ROWS] += 1
                    row = store.used[MEMO_ROWS]
                    store.memo_row[value] = row
                found = np.int64(FULL)
                if row > 0:
                    found = np.int64(store.memo[row, function]) - 2
                    if found == NOT_CALLED:
                        found = np.int64(call(store, function, value))
                        if found != FULL:
                            store.memo[row, function] = found + 2
                child[p] = found
                if found < 0:
                    good = False
                    if found == FULL:
                        states.used[1] = 1
                    break
            if good:
                add_state(states, child, total, state, function)
        if not once:
            states.done[state] = listed.size
            expanded += 1


@plain_kernel
def requeue(states: Any) -> None:
    """Queue every state again, in order of discovery, for further functions."""
    for cost in range(states.first.size):
        states.first[cost] = -1
    for state in range(states.used[0]):
        if states.done[state] >= 0:
            enqueue(states, state)


@plain_kernel
def put_image(store: Any, pair: Any, grid: Any) -> Any:
    """Keep a grid as an image at the origin and return its value; FULL where there is no room."""
    h, w = grid.shape
    new, start = store.used[1], store.used[0]
    if new + 1 >= store.images.shape[0] or start + h * w >= store.cells.size:
        return FULL
    for r in range(h):
        for c in range(w):
            store.cells[start + r * w + c] = grid[r, c]
    store.images[new, 0], store.images[new, 1] = h, w
    store.images[new, 2], store.images[new, 3], store.images[new, 4] = 0, 0, start
    return intern(store, pair, np.int64(0), new, np.int64(1), start + h * w)


def make_store(functions: NDArray[np.int64], sizes: NDArray[np.int64], bytes_: int, max_area: int) -> Store:
    """Return an empty store within a number of bytes. Pages that are never written take no memory.

    Args:
        functions: table of the functions.
        sizes: int64 [pairs, 4], sizes of inputs and outputs.
        bytes_: bound of the arrays' bytes together.
        max_area: largest area of an image in cells.
    """
    list_area = 8 * max_area
    cells = max(bytes_ // 2, 1 << 20)
    images = max(bytes_ // 8 // 40, 4096)
    values = max(bytes_ // 8 // 48, 4096)
    rows = max(bytes_ // 4 // (4 * len(functions)), 1024)
    return Store(
        cells=np.empty(cells, dtype=np.uint8),
        images=np.empty((images, 5), dtype=np.int64),
        values=np.empty((values, 4), dtype=np.int64),
        hashes=np.empty(values, dtype=np.uint64),
        slots=np.full(1 << (values - 1).bit_length() + 1, -1, dtype=np.int32),
        memo=np.zeros((rows, len(functions)), dtype=np.int32),
        memo_row=np.zeros(values, dtype=np.int32),
        used=np.zeros(5, dtype=np.int64),
        sizes=sizes,
        limits=np.array([max_area, list_area], dtype=np.int64),
        work=np.empty(8 * max(max_area, 900) + 64, dtype=np.int32),
        heads=np.empty((64, 5), dtype=np.int64),
        numbers=np.empty((2, 64), dtype=np.int64),
        functions=functions,
    )
