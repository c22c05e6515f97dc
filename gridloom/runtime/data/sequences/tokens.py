"""Sequence tasks as rows of tokens, question and answer of equal length, for networks that map tokens to tokens.

| kind | question | answer |
|---|---|---|
| parity | -1, 0, +1 as 1, 2, 3 | 4 (even) or 5 (odd) in the first cell |
| addition | one line per number, digit d as d + 1 | the running sum on each line but the first, then 11 |
| copy | symbols from 3 on, then EOS 2 | the same, or backwards |
| string_addition | `12+7`: PLUS 3, digit d as d + 4 | the sum, then EOS 2 |
| recall | key and value, or key and MARK | the value in the first cell |
| star_graph | edges, MARK, centre, goal | nodes of the path |
| graph_search | edges, MARK, root, two candidates | the candidate that is reached |
| stream, prebuilt | stored rows: bytes, or cells of a grid | stored |

0 is PAD and not scored in an answer. `sort` and `logic` are sequences of vectors and have no token form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.sequences.artifact import SequenceSpec
from gridloom.runtime.data.sequences.widths import sum_width
from gridloom.specs.built import BuiltData
from gridloom.specs.part_tasks import PartTask
from gridloom.specs.puzzles import AdditionData, CopyData, ParityData, SequenceData, StringAdditionData

EVEN, ODD = 4, 5


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Length and vocabulary size of a task's rows."""

    num_cells: int
    vocabulary: int


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """Batch of B rows of L tokens."""

    inputs: NDArray[np.uint8]
    """uint8 [B, L]"""
    labels: NDArray[np.uint8]
    """uint8 [B, L]; 0 marks positions that are not scored."""
    puzzle_ids: NDArray[np.int32]
    """int32 [B], zeros."""
    lengths: NDArray[np.int32]
    """int32 [B], difficulty of each row."""
    valid: None = None
    """Every token is valid."""


def token_layout(spec: SequenceData) -> TokenLayout | None:
    """Return the layout of a task's token rows; None for `sort` and `logic`. Imports no numba."""
    if isinstance(spec, ParityData):
        return TokenLayout(spec.num_entries, 6)
    if isinstance(spec, AdditionData):
        return TokenLayout(spec.numbers * sum_width(spec.digits, spec.numbers), 12)
    if isinstance(spec, CopyData):
        return TokenLayout(spec.length + 1, spec.symbols + 3)
    if isinstance(spec, StringAdditionData):
        question, answer = spec.terms * (spec.digits + 1), sum_width(spec.digits, spec.terms) + 1
        return TokenLayout(max(question, answer), 14)
    if isinstance(spec, BuiltData | PartTask):
        return TokenLayout(spec.num_cells, spec.vocabulary)
    return None


def token_rows(spec: SequenceSpec, step: int, batch_size: int, split: str = "train") -> TokenRows:
    """Return rows step * batch_size ... of a split of a task that has a token layout."""
    from gridloom.runtime.data.sequences.streams import SequenceStream

    layout = token_layout(spec)
    assert layout is not None, f"{spec.kind} has no token layout"
    if isinstance(spec, BuiltData):
        from gridloom.runtime.data.built.rows import drawn_rows

        stored = drawn_rows(spec, step, batch_size, split)
        lengths = (stored.inputs != 0).sum(axis=1).astype(np.int32)
        return TokenRows(stored.inputs, stored.labels, np.zeros(batch_size, dtype=np.int32), lengths)
    drawn = SequenceStream(spec).batch(step, batch_size, split)
    inputs, labels = (np.zeros((batch_size, layout.num_cells), dtype=np.uint8) for _ in range(2))
    if isinstance(spec, ParityData):
        inputs[:] = 2
        inputs[:, : spec.bits] += drawn.inputs.astype(np.uint8)
        labels[:, 0] = np.where(drawn.labels == 1, ODD, EVEN)
    elif isinstance(spec, AdditionData):
        width = layout.num_cells // spec.numbers
        digits = drawn.inputs.reshape(batch_size, spec.numbers, spec.digits, 10)
        lines = np.zeros((batch_size, spec.numbers, width), dtype=np.uint8)
        lines[:, :, : spec.digits] = np.where(digits.any(axis=-1), digits.argmax(axis=-1) + 1, 0)
        inputs[:] = lines.reshape(batch_size, -1)
        labels[:] = np.where(drawn.labels < 0, 0, drawn.labels + 1).reshape(batch_size, -1)
    else:
        inputs[:, : drawn.inputs.shape[1]] = drawn.inputs
        labels[:, : drawn.labels.shape[1]] = drawn.labels
    return TokenRows(inputs, labels, np.zeros(batch_size, dtype=np.int32), drawn.lengths)
