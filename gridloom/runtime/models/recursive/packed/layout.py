"""Layout of packed rows: where each row's tokens lie in one flat sequence, and attention that stays within a row.

A rows of h x w cells and P prefix positions have P + h w tokens each: N tokens in all, M cells. In the sequence the
rows are ordered by length, the shorter first, and by their number; a row's prefix stands before its cells, which go by
rows of its grid. Rows of one length are neighbours, so their attention is one product of a batch, without a mask.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gridloom.runtime.models.recursive.layers import Rope
from gridloom.runtime.models.recursive.packed import passes
from gridloom.runtime.models.recursive.packed.attention import Group, mix_by_bounds, mix_by_groups

Indices = NDArray[np.int64]


class Layout:
    """Places of rows in a packed sequence, on the host."""

    def __init__(self, shapes: Indices, prefix_len: int, canvas: int) -> None:
        """Args: shapes: int64 [A, 2], rows and columns of each rectangle. canvas: side of the largest, in cells."""
        self.shapes = np.asarray(shapes, dtype=np.int64).reshape(-1, 2)
        self.prefix_len, self.canvas = prefix_len, canvas
        self.num_cells: Indices = self.shapes.prod(axis=1)
        self.lengths: Indices = self.num_cells + prefix_len
        self.order: Indices = np.argsort(self.lengths, kind="stable")
        """int64 [A], rows in the order of the sequence."""
        self.starts = _starts(self.lengths, self.order)
        """int64 [A], first token of each row."""
        self.cell_starts = _starts(self.num_cells, self.order)
        """int64 [A], first cell of each row among the M cells."""

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def num_tokens(self) -> int:
        """Tokens N of all rows."""
        return int(self.lengths.sum())

    def tokens_of(self, rows: Indices) -> Indices:
        """Return the places of the tokens of rows, row by row."""
        return runs(self.starts[rows], self.lengths[rows])

    def cells_of(self, rows: Indices) -> Indices:
        """Return the places of the cells of rows among the M cells, row by row."""
        return runs(self.cell_starts[rows], self.num_cells[rows])

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups of rows of one length, in the order of the sequence."""
        lengths, counts = np.unique(self.lengths, return_counts=True)
        return tuple(Group(count, length) for length, count in zip(lengths.tolist(), counts.tolist(), strict=True))

    @cached_property
    def cell_row(self) -> Indices:
        """int64 [M], row of each cell."""
        return np.repeat(self.order, self.num_cells[self.order])

    @cached_property
    def cell_tokens(self) -> Indices:
        """int64 [M], token of each cell."""
        ordered = self.order
        return runs(self.starts[ordered] + self.prefix_len, self.num_cells[ordered])

    @cached_property
    def on_canvas(self) -> Indices:
        """int64 [M], place of each cell on the square canvas of its row."""
        place = np.arange(len(self.cell_row)) - np.repeat(self.cell_starts[self.order], self.num_cells[self.order])
        row, column = np.divmod(place, self.shapes[self.cell_row, 1])
        found: Indices = row * self.canvas + column
        return found

    @cached_property
    def positions(self) -> Indices:
        """int64 [N], index of each token's place in the tables of prefix and canvas."""
        places = np.empty(self.num_tokens, dtype=np.int64)
        every = np.arange(len(self))
        prefix = runs(self.starts, np.full(len(self), self.prefix_len))
        places[prefix] = np.tile(np.arange(self.prefix_len), len(every))
        places[self.cell_tokens] = self.prefix_len + self.on_canvas
        return places


def runs(starts: Indices, lengths: Indices) -> Indices:
    """Return the integers starts[i] ... starts[i] + lengths[i] - 1 of all i, one after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    found: Indices = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
    return found


def _starts(lengths: Indices, order: Indices) -> Indices:
    starts = np.empty(len(lengths), dtype=np.int64)
    ordered = lengths[order]
    starts[order] = np.cumsum(ordered) - ordered
    return starts


class PackedRope(Rope):
    """Rotary tables of the tokens of a layout, and attention within its rows."""

    def __init__(self, layout: Layout, square: Rope) -> None:
        """Args: square: tables of the prefix and the whole canvas."""
        nn.Module.__init__(self)
        self.layout = layout
        device = square.cos.device
        places = torch.from_numpy(layout.positions).to(device)
        self.cos, self.sin = square.cos[places], square.sin[places]
        self.first = torch.from_numpy(layout.starts).to(device)
        """int64 [A], position 0 of each row."""
        self.cells = torch.from_numpy(layout.cell_tokens).to(device)
        """int64 [M], token of each cell."""
        self.row = torch.from_numpy(layout.cell_row).to(device)
        """int64 [M], row of each cell."""
        self.ends = torch.zeros(len(layout) + 1, dtype=torch.int32)
        self.ends[1:] = torch.from_numpy(np.cumsum(layout.lengths[layout.order]))
        self.ends = self.ends.to(device)
        """int32 [A + 1], boundaries of the rows in the sequence."""

    def first_of(self, state: Tensor) -> Tensor:
        """Return position 0 of each row of a state [1, N, D]: [A, D]."""
        return state[0, self.first]

    def cells_of(self, state: Tensor, prefix_len: int) -> Tensor:
        """Return the cells of a state [1, N, D]: [M, D], in the order of the layout."""
        return state[0, self.cells]

    def rotate(self, heads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split [1, N, 3h, d] into q, k, v of h heads each, and rotate q and k."""
        return passes.rotate(heads, self.cos, self.sin)

    def add_norm(self, x: Tensor, change: Tensor) -> Tensor:
        """Return rms(x + change)."""
        return passes.add_norm(x, change)

    def gate(self, gate_up: Tensor) -> Tensor:
        """Return silu(first half) * second half of the last dimension."""
        return passes.gate(gate_up)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return softmax(q k / sqrt(d)) v within each row: [1, N, h, d] to [1, N, h, d]."""
        if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16):
            longest = int(self.layout.lengths.max())
            return mix_by_bounds(query[0], key[0], value[0], self.ends, longest)[None]
        return mix_by_groups(query[0], key[0], value[0], self.layout.groups)[None]
