"""numba kernels of the tasks for parts of the engine. Row b depends only on keys[b]; callers zero the outputs.

Tokens: PAD 0, MARK 1, then the task's own from 2 on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.kernels import below, derive, kernel, shuffle

MARK, FIRST = 1, 2


@kernel
def fill_recall(
    keys: Any, table: Any, test: Any, num_keys: Any, asked: Any, symbols: Any, values: Any, inputs: Any, labels: Any
) -> None:
    """Fill inputs uint8 [B, K + 1] with key and value, or key and MARK, and labels uint8 [B, 1] with the value.

    `table` is the key of the values. Key i is the number i * odd + offset modulo symbols^K, in digits, so that keys
    differ.
    """
    length = inputs.shape[1] - 1
    total = symbols**length
    factor = 2 * below(derive(table, 0), total // 2) + 1  # symbols are a power of 2, so that odd factors permute
    offset = below(derive(table, 1), total)
    for b in range(keys.size):
        shows = not test and below(derive(keys[b], 0), 2) == 0
        draw = derive(keys[b], 1)
        if test:
            i = asked + below(draw, num_keys - asked)
        elif shows:
            i = below(draw, num_keys)
        else:
            i = below(draw, asked)
        code = (i * factor + offset) % total
        for j in range(length):
            inputs[b, j] = FIRST + code % symbols
            code //= symbols
        value = FIRST + symbols + below(derive(table, i + 2), values)
        inputs[b, length] = value if shows else MARK
        labels[b, 0] = value


@kernel
def fill_star(keys: Any, degree: Any, path: Any, nodes: Any, backwards: Any, inputs: Any, labels: Any) -> None:
    """Fill inputs uint8 [B, L] with edges, MARK, centre and goal, and labels uint8 [B, path] with the path."""
    names = np.zeros(nodes, dtype=np.int64)
    edges = np.zeros(degree * (path - 1), dtype=np.int64)
    for b in range(keys.size):
        for i in range(nodes):
            names[i] = i
        shuffle(derive(keys[b], 0), names)
        for i in range(edges.size):
            edges[i] = i
        shuffle(derive(keys[b], 1), edges)
        for i in range(edges.size):
            edge = edges[i]
            # node n + 1 of the star follows node n, but the first of an arm follows the centre
            before = 0 if edge % (path - 1) == 0 else edge
            inputs[b, 2 * i] = FIRST + names[before]
            inputs[b, 2 * i + 1] = FIRST + names[edge + 1]
        arm = below(derive(keys[b], 2), degree)
        end = 2 * edges.size
        inputs[b, end] = MARK
        inputs[b, end + 1] = FIRST + names[0]
        inputs[b, end + 2] = FIRST + names[(arm + 1) * (path - 1)]
        for i in range(path):
            place = path - 1 - i if backwards else i
            labels[b, place] = FIRST + names[0 if i == 0 else arm * (path - 1) + i]


@kernel
def fill_graph(keys: Any, min_hops: Any, max_hops: Any, inputs: Any, labels: Any, lengths: Any) -> None:
    """Fill inputs uint8 [B, L] with edges, MARK, root and two candidates, labels uint8 [B, 1], lengths int32 [B].

    Two trees of half the nodes each: a chain of the row's hops from the root, and further nodes below any earlier one.
    """
    num_edges = (inputs.shape[1] - 4) // 2
    nodes = num_edges + 2
    names = np.zeros(nodes, dtype=np.int64)
    order = np.zeros(num_edges, dtype=np.int64)
    starts = np.zeros(num_edges, dtype=np.int64)
    ends = np.zeros(num_edges, dtype=np.int64)
    for b in range(keys.size):
        hops = min_hops + below(derive(keys[b], 0), max_hops - min_hops + 1)
        lengths[b] = hops
        for i in range(nodes):
            names[i] = i
        shuffle(derive(keys[b], 1), names)
        half = nodes // 2
        count = 0
        for tree in range(2):
            first = 0 if tree == 0 else half
            last = half if tree == 0 else nodes
            for node in range(first + 1, last):
                place = node - first
                # the chain, then nodes that hang anywhere but below its end, so that the end is a leaf of either tree
                parent = node - 1
                if place > hops:
                    parent = first + below(derive(keys[b], node + 10), place)
                    if parent == first + hops:
                        parent = first
                starts[count] = names[parent]
                ends[count] = names[node]
                count += 1
        for i in range(num_edges):
            order[i] = i
        shuffle(derive(keys[b], 2), order)
        for i in range(num_edges):
            inputs[b, 2 * i] = FIRST + starts[order[i]]
            inputs[b, 2 * i + 1] = FIRST + ends[order[i]]
        place = 2 * num_edges
        inputs[b, place] = MARK
        inputs[b, place + 1] = FIRST + names[0]
        swap = below(derive(keys[b], 3), 2)
        inputs[b, place + 2 + swap] = FIRST + names[hops]
        inputs[b, place + 3 - swap] = FIRST + names[half + hops]
        labels[b, 0] = FIRST + names[hops]
