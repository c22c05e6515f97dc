"""Codes GL380-GL382: packed rows."""

from __future__ import annotations

from gridloom.compiler.codes.code import Code, over

_ALONE = "stages: {joint: null, solve: {with: pretrain}}\n"
_BY_ROW = "models: {trm: {positions: rope_2d}}\n"

PACKED = (
    Code(
        "GL380", "packed rows for a network of one canvas",
        "`rows: packed` gives each row a size of its own, and a weight of the network or an adapter belongs to a "
        "position of a canvas.",
        "Attention and positions by row and column mean the same on rows of any size; learned positions, positions in "
        "the flat order and MLP mixing do not.",
        over("data: {arc1: {rows: packed}}\n" + _ALONE),
        over("data: {arc1: {rows: packed}}\n" + _BY_ROW + _ALONE),
    ),
    Code(
        "GL381", "options that exclude packed rows",
        "`rows: packed` stands beside `canvases` or `augment.translate`.",
        "A packed row is as large as its grids: it lies on no canvas that could be chosen, and has no room to move in.",
        over("data: {arc1: {rows: packed, canvases: [7]}}\n" + _BY_ROW + _ALONE),
        over("data: {arc1: {rows: packed}}\n" + _BY_ROW + _ALONE),
    ),
    Code(
        "GL382", "budget of tokens that holds no row",
        "`batch_tokens` is smaller than the largest packed row, or rows are not packed.",
        "A row that never fits would hold up the stream; on canvases `batch_size` says the same in rows.",
        over("stages: {pretrain: {batch_tokens: 4096}}\n"),
        over("data: {arc1: {rows: packed}}\n" + _BY_ROW
             + "stages: {joint: null, pretrain: {batch_tokens: 4096}, solve: {with: pretrain}}\n"),
    ),
)  # fmt: skip
