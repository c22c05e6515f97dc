"""Positions that still run, packed: indices between the packed positions and the rows that they belong to.

Shapes: B rows of S positions; A rows with a running position; R running positions, at most W in a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Places of R packed positions, ordered by row and column."""

    rows: Tensor
    """int64 [A], rows of the batch."""
    local: Tensor
    """int64 [R], index of each position's row in `rows`."""
    column: Tensor
    """int64 [R], place of each position in its row, 0 .. S - 1."""
    length: int
    """S"""

    @property
    def count(self) -> int:
        """Number R of positions."""
        return len(self.local)

    @property
    def whole(self) -> bool:
        """Whether every position of the rows is there, so that a view replaces gathering and scattering."""
        return self.count == len(self.rows) * self.length

    @property
    def flat(self) -> Tensor:
        """int64 [R], row * S + column in the whole batch."""
        return self.rows[self.local] * self.length + self.column

    @property
    def slots(self) -> Tensor:
        """int64 [R], index of the row in `rows` * S + column."""
        return self.local * self.length + self.column

    def some(self, kept: Tensor) -> Places:
        """Return the positions where bool [R] `kept` is True, in the same rows."""
        return Places(self.rows, self.local[kept], self.column[kept], self.length)

    def within(self, rows: Tensor, kept: Tensor) -> Places:
        """Return the positions where bool [R] `kept` is True, all in the rows where bool [A] `rows` is True."""
        renumbered = torch.cumsum(rows, dim=0) - 1
        return Places(self.rows[rows], renumbered[self.local[kept]], self.column[kept], self.length)


def all_places(batch: int, length: int, valid: Tensor | None, device: torch.device) -> Places:
    """Return the valid positions of a batch; bool [B, S], or None where all are valid. Rows without one are absent."""
    if valid is None:
        index = torch.arange(batch * length, device=device)
        return Places(torch.arange(batch, device=device), index // length, index % length, length)
    index = valid.flatten().nonzero().squeeze(1)
    rows, local = torch.unique_consecutive(index // length, return_inverse=True)
    return Places(rows, local, index % length, length)


def attend(
    query: Tensor,
    key_value: Tensor,
    places: Places,
    *,
    heads: int,
    key_depth: int,
    valid: Tensor | None,
    causal: bool,
) -> Tensor:
    """Return the attention of the packed queries over all positions of their rows, [R, V].

    Args:
        query: [R, K] at `places`.
        key_value: [A, S, K + V] of all positions of the rows of `places`.
        valid: bool [A, S], positions that may be read; None for all.
        causal: no position reads those behind it.
    """
    num_rows, length = len(places.rows), places.length
    keys, values = key_value[..., :key_depth], key_value[..., key_depth:]
    keys, values = (part.view(num_rows, length, heads, -1).transpose(1, 2) for part in (keys, values))
    if places.whole:
        width, slots = length, None
    else:
        counts = torch.bincount(places.local, minlength=num_rows)
        rank = torch.arange(places.count, device=query.device) - (torch.cumsum(counts, dim=0) - counts)[places.local]
        width = int(counts.max())
        slots = places.local * width + rank
        query = query.new_zeros(num_rows * width, key_depth).index_copy(0, slots, query)
    query = query.view(num_rows, width, heads, -1).transpose(1, 2)
    allowed = None if valid is None else valid[:, None, None]
    if causal and (slots is not None or valid is not None):
        read = torch.arange(length, device=query.device)
        if slots is None:
            columns = read[None]
        else:
            columns = read.new_zeros(num_rows * width).index_copy(0, slots, places.column).view(num_rows, width)
        before = (columns[:, :, None] >= read)[:, None]
        allowed = before if allowed is None else before & allowed
    mixed = F.scaled_dot_product_attention(query, keys, values, attn_mask=allowed, is_causal=causal and allowed is None)
    mixed = mixed.transpose(1, 2).reshape(num_rows * width, -1)
    return mixed if slots is None else mixed.index_select(0, slots)
