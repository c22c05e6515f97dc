"""Tokens: a grid on a square canvas. PAD 0, EOS 1, colours 0-9 as 2-11; cell (r, c) is at r * canvas + c."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc import kernels as arc_kernels
from gridloom.runtime.data.arc.packed import PackedGrids
from gridloom.runtime.data.arc.views import IDENTITY, View
from gridloom.runtime.data.tasks import DIHEDRAL_INVERSE, Grid

PAD = 0
EOS = 1
COLOUR0 = 2
_CELL = np.dtype(np.uint8)


def encode(grid: Grid, canvas: int, offset: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """Return uint8 [canvas * canvas] with the grid at `offset`. Raises DataError when it does not fit.

    EOS fills the row below the grid over its columns and the column to its right over its rows, as far as these are on
    the canvas; the corner between them stays PAD.
    """
    tokens: NDArray[np.uint8] = encode_batch([grid], canvas, [View(offset=offset)])[0]
    return tokens


def encode_batch(grids: Sequence[Grid], canvas: int, views: Sequence[View] | None = None) -> NDArray[np.uint8]:
    """Return uint8 [B, canvas * canvas]: each grid under its view, at the view's offset. Raises DataError."""
    views = [IDENTITY] * len(grids) if views is None else views
    for grid, view in zip(grids, views, strict=True):
        rows, columns = grid.shape[::-1] if view.dihedral in (1, 3, 6, 7) else grid.shape
        (down, right) = view.offset
        if min(down, right) < 0 or down + rows > canvas or right + columns > canvas:
            raise DataError(
                f"a {rows}x{columns} grid at ({down}, {right}) does not fit on a {canvas}x{canvas} canvas",
                f"use a canvas of {max(rows, columns)} or more",
            )
    packed = PackedGrids.of(grids)
    out = np.zeros((len(grids), canvas * canvas), dtype=np.uint8)
    if grids:
        arc_kernels.render(
            packed.cells,
            packed.start,
            packed.rows,
            packed.columns,
            np.arange(len(grids)),
            np.array([view.dihedral for view in views], dtype=np.uint8),
            np.array([view.colours for view in views], dtype=np.uint8),
            np.array([view.offset for view in views], dtype=np.int64),
            canvas,
            out,
        )
    return out


def crop(tokens: NDArray[np.uint8], canvas: int) -> Grid | None:
    """Return the largest rectangle of colours anchored at (0, 0) of uint8 [canvas * canvas]; None if there is none."""
    return crop_batch(tokens.reshape(1, -1), canvas)[0]


def crop_batch(tokens: NDArray[np.uint8], canvas: int) -> list[Grid | None]:
    """Apply `crop` to each row of uint8 [B, canvas * canvas]."""
    tokens = np.ascontiguousarray(tokens, dtype=np.uint8)
    sizes, starts, cells = _room(tokens, canvas)
    arc_kernels.cut(tokens, sizes, starts, canvas, cells)
    return _parts(cells, starts, sizes)


def crop_back(tokens: NDArray[np.uint8], canvas: int, views: Sequence[View]) -> list[Grid | None]:
    """Crop each row of uint8 [B, canvas * canvas] at its view's offset and undo the view, as votes over views do."""
    tokens = _at_corner(np.ascontiguousarray(tokens, dtype=np.uint8), canvas, views)
    turns = np.array([DIHEDRAL_INVERSE[view.dihedral] for view in views], dtype=np.uint8)
    colours = np.array([view.colours for view in views], dtype=np.int64).reshape(len(views), 10)
    sizes, starts, cells = _room(tokens, canvas)
    arc_kernels.restore(tokens, sizes, turns, np.argsort(colours, axis=1).astype(np.uint8), starts, canvas, cells)
    across = np.isin(turns, (1, 3, 6, 7))
    return _parts(cells, starts, np.where(across[:, None], sizes[:, ::-1], sizes))


def _at_corner(tokens: NDArray[np.uint8], canvas: int, views: Sequence[View]) -> NDArray[np.uint8]:
    """Shift each view's offset to (0, 0): uint8 [B, canvas * canvas]; returns `tokens` itself without offsets."""
    moved = [(row, view.offset) for row, view in enumerate(views) if view.offset != (0, 0)]
    if not moved:
        return tokens
    placed = tokens.copy().reshape(-1, canvas, canvas)
    for row, (down, right) in moved:
        part = placed[row, down:, right:].copy()
        placed[row] = PAD
        placed[row, : canvas - down, : canvas - right] = part
    return placed.reshape(tokens.shape)


def _room(tokens: NDArray[np.uint8], canvas: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.uint8]]:
    """Return the crops' sizes int32 [B, 2], their starts int64 [B] in one flat array, and that array, uninitialised."""
    sizes = crop_sizes(tokens, canvas)
    areas = sizes.prod(axis=1, dtype=np.int64)
    ends = np.cumsum(areas)
    return sizes, ends - areas, np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.uint8)


def _parts(cells: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int32]) -> list[Grid | None]:
    """Return views of the grids in a flat array; None for an empty grid."""
    rows, columns = sizes[:, 0].tolist(), sizes[:, 1].tolist()
    return [
        np.ndarray((h, w), _CELL, cells, start) if h else None
        for start, h, w in zip(starts.tolist(), rows, columns, strict=True)
    ]


def crop_sizes(tokens: NDArray[np.uint8], canvas: int) -> NDArray[np.int32]:
    """Return rows and columns of the crop of each row of uint8 [B, canvas * canvas]: int32 [B, 2], zeros for none."""
    sizes: NDArray[np.int32] = arc_kernels.crop_sizes(np.ascontiguousarray(tokens, dtype=np.uint8), canvas)
    return sizes


decode = crop


def same_grids(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Compare the cropped grids of uint8 [B, L] with [B, L]: bool [B]. Tokens beyond a grid's border are ignored: no
    loss covers them, so they need not converge."""
    canvas = math.isqrt(before.shape[1])
    pairs = zip(*(crop_batch(tokens.cpu().numpy(), canvas) for tokens in (before, after)), strict=True)
    same = [a is not None and b is not None and np.array_equal(a, b) for a, b in pairs]
    return torch.tensor(same, dtype=torch.bool, device=after.device)
