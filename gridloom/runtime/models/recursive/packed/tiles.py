"""Rows that run through ACT steps together in inference: a tile of square canvases, or of packed rows.

B rows, L cells of a canvas, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from gridloom.errors import ModelError
from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.packed.carry import NewRows, begun, exchange
from gridloom.runtime.models.recursive.packed.layout import Indices, PackedRope
from gridloom.runtime.models.recursive.packed.step import embed, laid_out

TILE_ELEMENTS = 1 << 18
"""Positions times width of a tile on a CPU: smaller tiles are bound by the interpreter, larger ones by memory."""


class Tile:
    """Rows of square canvases with their states [B, S, D] and the embedding that every cycle reads."""

    def __init__(self, network: RecursiveCore, z_H: Tensor, z_L: Tensor, x: Tensor) -> None:
        self.network, self.z_H, self.z_L, self.x = network, z_H, z_L, x

    @property
    def num_rows(self) -> int:
        """Number of rows that run."""
        return len(self.z_H)

    def recur(self) -> bool:
        """Run an ACT step; return whether all states repeat bit for bit, so that all later steps would."""
        before = self.z_H, self.z_L
        self.z_H, self.z_L = self.network.recur(self.z_H, self.z_L, self.x)
        return all(torch.equal(a, b) for a, b in zip(before, (self.z_H, self.z_L), strict=True))

    def logits(self) -> Tensor:
        """Return the logits of the cells, [B, L, V] for `tokens` and `on_canvas`."""
        return self.network.predict(self.z_H)

    def halting(self) -> Tensor:
        """Return the logits to halt and to continue, fp32 [B, 2]."""
        return self.network.halting(self.z_H)

    def tokens(self, logits: Tensor) -> Tensor:
        """Return the most probable tokens, uint8 [B, L]."""
        return logits.argmax(dim=-1).to(torch.uint8)

    def on_canvas(self, logits: Tensor) -> Tensor:
        """Return `logits` as [B, L, V]."""
        return logits

    def num_cells(self) -> Tensor:
        """Return the number of cells of each row, int32 [B]."""
        cells = self.z_H.shape[1] - self.network.prefix_len
        return torch.full((self.num_rows,), cells, dtype=torch.int32, device=self.z_H.device)

    def keep(self, stay: Tensor) -> None:
        """Keep the rows with these indices, int64."""
        self.z_H, self.z_L, self.x = self.z_H[stay], self.z_L[stay], self.x[stay]


class PackedTile(Tile):
    """Packed rows with their states [1, N, D]. Tokens outside a row's rectangle are 0."""

    def __init__(self, network: RecursiveCore, rows: NewRows) -> None:
        carry = begun(network, rows)
        self.carry = carry
        self.packed = PackedRope(carry.layout, _square(network))
        puzzle_rows = network.puzzle_emb(carry.puzzle_ids)
        super().__init__(network, carry.z_H, carry.z_L, embed(network, carry, self.packed, puzzle_rows))

    @property
    def num_rows(self) -> int:
        """Number of rows that run."""
        return len(self.carry.layout)

    def recur(self) -> bool:
        """Run an ACT step; see `Tile`."""
        with laid_out(self.network, self.packed):
            return super().recur()

    def logits(self) -> Tensor:
        """Return the logits of the cells, [M, V] in the order of the layout."""
        with laid_out(self.network, self.packed):
            return super().logits()

    def halting(self) -> Tensor:
        """Return the logits to halt and to continue, fp32 [B, 2]."""
        with laid_out(self.network, self.packed):
            return super().halting()

    def tokens(self, logits: Tensor) -> Tensor:
        """Return the most probable tokens on the canvas, uint8 [B, L]."""
        return self._placed(logits.argmax(dim=-1).to(torch.uint8))

    def on_canvas(self, logits: Tensor) -> Tensor:
        """Return logits [M, V] as [B, L, V], zeros outside the rectangles."""
        return self._placed(logits)

    def num_cells(self) -> Tensor:
        """Return the number of cells of each row, int32 [B]."""
        return torch.from_numpy(self.carry.layout.num_cells).to(self.z_H.device, torch.int32)

    def keep(self, stay: Tensor) -> None:
        """Keep the rows with these indices, int64."""
        before, kept = self.carry.layout, stay.cpu().numpy()
        none = NewRows(np.zeros((0, 1), np.uint8), None, np.zeros(0, np.int64), np.zeros((0, 2), np.int64))
        now = replace(self.carry, z_H=self.z_H, z_L=self.z_L)
        self.carry = exchange(self.network, now, kept, none, np.arange(len(kept)))
        x = torch.empty_like(self.carry.z_H)
        every = np.arange(len(kept))
        x[:, self.carry.layout.tokens_of(every)] = self.x[:, before.tokens_of(kept)]
        self.z_H, self.z_L, self.x = self.carry.z_H, self.carry.z_L, x
        self.packed = PackedRope(self.carry.layout, _square(self.network))

    def inside(self) -> Tensor:
        """Return bool [B, L], True for the cells of a row's rectangle."""
        cells = int(self.carry.layout.num_cells.sum())
        return self._placed(torch.ones(cells, dtype=torch.bool, device=self.z_H.device))

    def residual(self, before: Sequence[Tensor], after: Sequence[Tensor]) -> Tensor:
        """Return fp32 [B], the root mean square of the difference of states [..., N, D], over the tokens of each row.

        A family without one of the states has it of size 0.
        """
        layout, device = self.carry.layout, self.z_H.device
        squares, width = torch.zeros(layout.num_tokens, device=device), 0
        for a, b in zip(before, after, strict=True):
            if b.numel():
                squares += (b.float() - a.float()).square().transpose(-2, -1).flatten(0, -2).sum(dim=0)
                width += b.numel() // layout.num_tokens
        every = np.arange(len(layout))
        row, places = (
            torch.from_numpy(table).to(device) for table in (np.repeat(every, layout.lengths), layout.tokens_of(every))
        )
        sums = torch.zeros(len(layout), device=device).index_add_(0, row, squares[places])
        return (sums / (torch.from_numpy(layout.lengths).to(device) * width)).sqrt()

    def _placed(self, values: Tensor) -> Tensor:
        canvas = self.network.canvas**2
        out = values.new_zeros(self.num_rows, canvas, *values.shape[1:])
        out[self.packed.row, torch.from_numpy(self.carry.layout.on_canvas).to(values.device)] = values
        return out


def _square(network: RecursiveCore) -> PackedRope:
    assert network.rope is not None, "packed rows have rotary positions"
    return network.rope  # type: ignore[return-value]


def packed_tiles(
    network: RecursiveCore, inputs: Tensor, puzzle_ids: Tensor, shapes: Tensor, injection: Injection | None
) -> Iterator[tuple[Indices, PackedTile]]:
    """Yield the tiles of rows, with the indices of their rows; rows of like length share a tile.

    Args:
        inputs: uint8 [B, L], canvases.
        shapes: int [B, 2], rectangle of each row.

    Raises:
        ModelError: a latent is injected, whose positions are those of a canvas.
    """
    if injection is not None:
        raise ModelError(
            "a latent has a value for each position of a canvas, and these rows have shapes of their own",
            "use a network that was trained with rows: square",
        )
    cells = shapes.cpu().numpy().astype(np.int64)
    rows = NewRows(inputs.cpu().numpy(), None, puzzle_ids.cpu().numpy(), cells)
    lengths = cells.prod(axis=1) + network.prefix_len
    order = np.argsort(lengths, kind="stable")
    most = TILE_ELEMENTS // network.spec.hidden_size if network.device.type == "cpu" else int(lengths.sum())
    first = 0
    while first < len(order):
        within = np.cumsum(lengths[order[first:]]) <= most
        last = first + max(1, int(within.sum()))
        part = order[first:last]
        yield part, PackedTile(network, rows.part(part))
        first = last
