"""Rows of the tasks for parts of the engine, and their text."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data import kernels
from gridloom.runtime.data.sequences import part_kernels as fill
from gridloom.specs.part_tasks import RECALL_SYMBOLS, GraphSearchData, PartTask, RecallData, StarGraphData


def part_rows(
    spec: PartTask, keys: NDArray[np.uint64], split: str, lengths: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return inputs and labels uint8 [B, L] of rows with these keys, and fill in their difficulty."""
    inputs, labels = (np.zeros((len(keys), spec.num_cells), dtype=np.uint8) for _ in range(2))
    if isinstance(spec, RecallData):
        # one table for every split
        place = np.zeros(1, dtype=np.int64)
        table = kernels.row_keys(np.uint64(spec.seed), zlib.crc32(b"recall table"), place)[0]
        fill.fill_recall(
            keys, table, split != "train", spec.keys, spec.asked, RECALL_SYMBOLS, spec.values, inputs, labels
        )
        lengths[:] = inputs.shape[1] - 1
    elif isinstance(spec, StarGraphData):
        fill.fill_star(keys, spec.degree, spec.path, spec.nodes, spec.backwards, inputs, labels)
        lengths[:] = spec.path
    else:
        assert isinstance(spec, GraphSearchData), spec.kind
        fill.fill_graph(keys, spec.min_hops, spec.hops, inputs, labels, lengths)
    return inputs, labels


def part_line(spec: PartTask, question: NDArray[Any], answer: NDArray[Any]) -> str:
    """Return a row as text: `3>7 7>2 ? 3 2 -> 3 7 2`."""

    def shown(token: int) -> str:
        return "?" if token == fill.MARK else str(token - fill.FIRST)

    wanted = " ".join(shown(token) for token in answer.tolist() if token)
    tokens = question.tolist()
    if isinstance(spec, RecallData):
        return f"{' '.join(map(shown, tokens))} -> {wanted}"
    end = tokens.index(fill.MARK)
    edges = " ".join(f"{shown(a)}>{shown(b)}" for a, b in zip(tokens[:end:2], tokens[1:end:2], strict=True))
    return f"{edges} {' '.join(shown(token) for token in tokens[end:] if token)} -> {wanted}"
