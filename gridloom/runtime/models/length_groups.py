"""Rows of unlike lengths, put together so that little is spent on padding."""

from __future__ import annotations

from collections.abc import Sequence

FORWARD_TOKENS = {"cpu": 64, "cuda": 4096}
"""What one more forward costs, in tokens of a long one.

A CPU reads every weight once and starts a few hundred small operations: 0.1 s of SmolLM2-135M on two cores, where a
token costs 1.9 ms. A GPU waits for its launches while it could run some thousand tokens (reckoned, not measured).
"""


def length_groups(lengths: Sequence[int], forward_tokens: int) -> list[list[int]]:
    """Part rows into batches, each padded to its longest, so that padding and batches together cost least.

    Args:
        lengths: tokens of each row.
        forward_tokens: what a batch costs beside its tokens.

    Returns:
        Indices of rows, each once; batches by growing length, within one in the order given.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    # cheapest[n] is the least cost of the n shortest rows, and where their last batch begins
    cheapest: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        cheapest.append(min(
            (cheapest[start][0] + forward_tokens + (end - start) * longest, start) for start in range(end)
        ))
    groups: list[list[int]] = []
    end = len(order)
    while end:
        start = cheapest[end][1]
        groups.insert(0, sorted(order[start:end]))
        end = start
    return groups
