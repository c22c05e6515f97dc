"""Carry of packed rows, and the exchange of rows that have halted for others of another size.

A rows, N tokens and M cells in the order of the layout, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gridloom.runtime.models.recursive.carry import Injection
from gridloom.runtime.models.recursive.core import RecursiveCore
from gridloom.runtime.models.recursive.packed.layout import Indices, Layout, runs


class NewRows(NamedTuple):
    """K rows that take the place of halted ones."""

    inputs: NDArray[np.uint8]
    """uint8 [K, C * C], tokens on the square canvas of side C; cells outside a row's shape are not read."""
    labels: NDArray[np.uint8] | None
    """uint8 [K, C * C]; 0 is not scored. None in inference."""
    puzzle_ids: NDArray[Any]
    """int [K]"""
    shapes: Indices
    """int64 [K, 2], rows and columns of each row's rectangle at the corner of its canvas."""

    def part(self, rows: Indices | slice) -> NewRows:
        """Return some of the rows."""
        labels = None if self.labels is None else self.labels[rows]
        return NewRows(self.inputs[rows], labels, self.puzzle_ids[rows], self.shapes[rows])

    def __len__(self) -> int:
        """Return the number K of rows."""
        return len(self.shapes)


@dataclass(frozen=True, slots=True, eq=False)
class PackedCarry:
    """State of packed rows between ACT steps."""

    layout: Layout
    z_H: Tensor
    """[1, N, D], detached."""
    z_L: Tensor
    """[1, N, D], detached; [1, 6, N, D] for six latents, [1, 0, D] for none."""
    steps: Tensor
    """int32 [A]"""
    halted: Tensor
    """bool [A]"""
    inputs: Tensor
    """uint8 [M]"""
    labels: Tensor
    """uint8 [M], all 0 in inference."""
    puzzle_ids: Tensor
    """int64 [A]"""

    def finite_rows(self) -> Tensor:
        """Return bool [A], whether the states of each row are finite."""
        finite = torch.ones(self.layout.num_tokens, dtype=torch.bool, device=self.z_H.device)
        for state in (self.z_H, self.z_L):
            if state.numel():
                finite &= torch.isfinite(state).all(dim=-1).flatten(0, -2).all(dim=0)
        order = self.layout.order
        row = torch.from_numpy(np.repeat(order, self.layout.lengths[order])).to(finite.device)
        broken = torch.zeros(len(self.layout), device=finite.device).index_add_(0, row, (~finite).float())
        return broken == 0


TOKEN_FIELDS = ("z_H", "z_L")
CELL_FIELDS = ("inputs", "labels")
ROW_FIELDS = ("steps", "halted", "puzzle_ids")


def empty_carry(network: RecursiveCore) -> PackedCarry:
    """Return a carry without rows."""
    device = network.device
    start_H, start_L = network.starts()
    none = torch.zeros(0, device=device)
    return PackedCarry(
        layout=Layout(np.zeros((0, 2), dtype=np.int64), network.prefix_len, network.canvas),
        z_H=start_H.expand(1, 1, -1)[:, :0].clone(),
        z_L=start_L[..., :0, :].clone() if start_L.numel() else start_L.clone(),
        steps=none.int(),
        halted=none.bool(),
        inputs=none.byte(),
        labels=none.byte(),
        puzzle_ids=none.long(),
    )


def exchange(
    network: RecursiveCore,
    carry: PackedCarry,
    kept: Indices,
    new: NewRows,
    places: Indices,
    start: Injection | None = None,
) -> PackedCarry:
    """Return a carry of the kept rows and the new ones, which start from the initial states.

    Args:
        kept: int64 [Q], rows of `carry` that stay.
        places: int64 [Q + K], for each row of the result an index into the kept rows followed by the new ones.
        start: states z_H, z_L of the new rows, [1, tokens, D] in the order of `new`, in place of the initial ones.
    """
    device = network.device
    layout = Layout(np.concatenate((carry.layout.shapes[kept], new.shapes))[places], network.prefix_len, network.canvas)
    now = np.empty(len(places), dtype=np.int64)
    now[places] = np.arange(len(places))
    stay, come = now[: len(kept)], now[len(kept) :]

    def index(values: Indices) -> Tensor:
        return torch.from_numpy(values).to(device)

    tokens = index(carry.layout.tokens_of(kept)), index(layout.tokens_of(stay)), index(layout.tokens_of(come))
    cells = index(carry.layout.cells_of(kept)), index(layout.cells_of(stay)), index(layout.cells_of(come))
    start_H, start_L = network.starts()
    if start is not None:
        start_H = start_H if start.z_H is None else start.z_H
        start_L = start_L if start.z_L is None else start.z_L

    def states(before: Tensor, first: Tensor) -> Tensor:
        if not first.numel():  # a network without a latent state
            return before
        after = before.new_empty(*before.shape[:-2], layout.num_tokens, before.shape[-1])
        after[..., tokens[1], :] = before[..., tokens[0], :]
        after[..., tokens[2], :] = first.to(before.dtype)
        return after

    def grids(before: Tensor, canvases: NDArray[np.uint8] | None) -> Tensor:
        after = before.new_zeros(int(layout.num_cells.sum()))
        after[cells[1]] = before[cells[0]]
        if canvases is not None and len(new):
            after[cells[2]] = torch.from_numpy(canvases.reshape(-1)[_corners(new, network.canvas)]).to(device)
        return after

    def values(before: Tensor, fresh: Tensor) -> Tensor:
        return torch.cat((before[index(kept)], fresh.to(device, before.dtype)))[index(places)]

    none = torch.zeros(len(new))
    return PackedCarry(
        layout=layout,
        z_H=states(carry.z_H, start_H),
        z_L=states(carry.z_L, start_L),
        steps=values(carry.steps, none),
        halted=torch.zeros(len(places), dtype=torch.bool, device=device),
        inputs=grids(carry.inputs, new.inputs),
        labels=grids(carry.labels, new.labels),
        puzzle_ids=values(carry.puzzle_ids, torch.from_numpy(np.asarray(new.puzzle_ids, dtype=np.int64))),
    )


def _corners(new: NewRows, canvas: int) -> Indices:
    """Return the places, in the flat canvases, of the cells of new rows, row by row."""
    rows = np.repeat(np.arange(len(new)), new.shapes.prod(axis=1))
    place = runs(np.zeros(len(new), dtype=np.int64), new.shapes.prod(axis=1))
    row, column = np.divmod(place, new.shapes[rows, 1])
    found: Indices = rows * canvas * canvas + row * canvas + column
    return found


def begun(network: RecursiveCore, rows: NewRows, start: Injection | None = None) -> PackedCarry:
    """Return the carry of rows that all start."""
    none = np.zeros(0, dtype=np.int64)
    return exchange(network, empty_carry(network), none, rows, np.arange(len(rows)), start)


def random_starts(network: RecursiveCore, tokens: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw z_H and z_L of rows that start from N(0, 1), one value for each of their tokens: [1, tokens, D]."""

    def like(start: Tensor) -> Tensor:
        shape = *start.shape[:-2], tokens if start.shape[-2] else 0, start.shape[-1]
        return torch.randn(shape, generator=generator, device=start.device).to(start.dtype)

    first_H, first_L = network.starts()
    return like(first_H), like(first_L)


def in_row_order(carry: PackedCarry) -> dict[str, Tensor]:
    """Return the tensors of a carry with tokens and cells row by row, tokens along the first dimension, and `shapes`.

    So written, the carries of several ranks are joined, and split anew, along the first dimension.
    """
    every = np.arange(len(carry.layout))
    device = carry.z_H.device
    tokens = torch.from_numpy(carry.layout.tokens_of(every)).to(device)
    cells = torch.from_numpy(carry.layout.cells_of(every)).to(device)
    found = {name: getattr(carry, name) for name in ROW_FIELDS}
    found |= {name: getattr(carry, name)[cells] for name in CELL_FIELDS}
    for name in TOKEN_FIELDS:
        state = getattr(carry, name)
        found[name] = state[0, ..., tokens, :].movedim(-2, 0) if state.numel() else state.new_zeros(len(tokens), 0)
    return {**found, "shapes": torch.from_numpy(carry.layout.shapes)}


def from_row_order(network: RecursiveCore, tensors: dict[str, Tensor], rows: slice) -> PackedCarry:
    """Return the carry of some of the rows that `in_row_order` gave."""
    device = network.device
    shapes = tensors["shapes"].numpy()
    cells = shapes.prod(axis=1)
    layout = Layout(shapes[rows], network.prefix_len, network.canvas)
    every = np.arange(len(layout))
    before = int(cells[: rows.start].sum())
    first, many = before + rows.start * network.prefix_len, layout.num_tokens
    token = torch.from_numpy(layout.tokens_of(every)).to(device)
    cell = torch.from_numpy(layout.cells_of(every)).to(device)
    blank = empty_carry(network)

    def states(name: str) -> Tensor:
        saved = tensors[name][first : first + many].to(device)
        like: Tensor = getattr(blank, name)
        if not saved.numel():
            return like
        placed = saved.new_empty(saved.shape)
        placed[token] = saved
        return placed.movedim(0, -2)[None]

    def grids(name: str) -> Tensor:
        saved = tensors[name][before : before + int(layout.num_cells.sum())].to(device)
        placed = saved.new_empty(saved.shape)
        placed[cell] = saved
        return placed

    return replace(
        blank,
        layout=layout,
        **{name: states(name) for name in TOKEN_FIELDS},
        **{name: grids(name) for name in CELL_FIELDS},
        **{name: tensors[name][rows].to(device) for name in ROW_FIELDS},
    )
