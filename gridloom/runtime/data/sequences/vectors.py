"""Sequence tasks as vectors over time steps, for networks that read numbers: float32 [B, T, F] with valid lengths.

| kind | T | F | answer |
|---|---|---|---|
| parity | 1 | width | odd or even, after the one step |
| parity as a sequence | width | 1 | odd or even, of the whole row |
| addition | numbers | 10 * digits | the digits of the running sum from the second number on, then 10 (end) |
| logic | steps | 2 + 10 * gates | the gates' output at each step |
| sort | 2 * length | 2 | the index of the number of each rank, in the steps after the numbers |
| copy | 2 * (length + 1) | symbols + 1 | the symbols, or backwards, and the end, in the steps after the question |
| string_addition | terms * (digits + 1) + digits of the sum + 1 | 12 | the sum and the end, likewise |

Symbols and characters are one-hot, the end of the question last of all; the steps of the answer are zeros.
Answers are classes + 1; 0 is not scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.sequences.artifact import GeneratedSpec
from gridloom.runtime.data.sequences.widths import sum_width
from gridloom.specs.puzzles import (
    AdditionData,
    CopyData,
    LogicData,
    ParityData,
    SequenceData,
    SortData,
    StringAdditionData,
)

CHARACTERS = 12
"""Characters of `string_addition`: ten digits, plus, end. Its answers have eleven classes, digits and end, beside 0."""


class VectorLayout(NamedTuple):
    """Shape of the vector rows of a task."""

    num_steps: int
    """T, time steps of a row."""
    num_features: int
    """F, numbers in a vector."""
    vocabulary: int
    """Classes of an answer, and 0 for places that are not scored."""
    answers: int = 1
    """Answers K of a time step; of the row where `whole`."""
    whole: bool = False
    """Whether the answers belong to the row as a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorRows:
    """B rows of T vectors."""

    inputs: NDArray[np.float32]
    """float32 [B, T, F]"""
    labels: NDArray[np.uint8]
    """uint8 [B, T * K], or [B, K] where they belong to the whole row: class + 1; 0 where nothing is scored."""
    puzzle_ids: NDArray[np.int32]
    """int32 [B], zeros."""
    lengths: NDArray[np.int32]
    """int32 [B], difficulty of each row."""
    valid: NDArray[np.int32]
    """int32 [B], time steps that each row has."""


def vector_layout(spec: SequenceData) -> VectorLayout | None:
    """Return the shape of a task's vector rows; None for a task without them. Light: no numba."""
    if isinstance(spec, ParityData):
        entries = spec.num_entries
        return VectorLayout(entries, 1, 3, whole=True) if spec.layout == "sequence" else VectorLayout(1, entries, 3)
    if isinstance(spec, AdditionData):
        return VectorLayout(spec.numbers, 10 * spec.digits, 12, sum_width(spec.digits, spec.numbers))
    if isinstance(spec, LogicData):
        return VectorLayout(spec.steps, 2 + 10 * spec.gates, 3)
    if isinstance(spec, SortData):
        return VectorLayout(2 * spec.length, 2, spec.length + 1)
    if isinstance(spec, CopyData):
        return VectorLayout(2 * (spec.length + 1), spec.symbols + 1, spec.symbols + 2)
    if isinstance(spec, StringAdditionData):
        question, answer = spec.terms * (spec.digits + 1), sum_width(spec.digits, spec.terms) + 1
        return VectorLayout(question + answer, CHARACTERS, CHARACTERS)
    return None


def _tables(spec: CopyData | StringAdditionData) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return by token of a string: the place of its 1 in a vector, int64 [256], -1 without one; the class of an answer
    + 1, uint8 [256]."""
    features, classes = np.full(256, -1, dtype=np.int64), np.zeros(256, dtype=np.uint8)
    first, number = (3, spec.symbols) if isinstance(spec, CopyData) else (4, 10)
    features[first : first + number] = np.arange(number)
    classes[first : first + number] = np.arange(1, number + 1)
    features[2], classes[2] = (number if isinstance(spec, CopyData) else CHARACTERS - 1), number + 1
    if isinstance(spec, StringAdditionData):
        features[3] = number  # plus
    return features, classes


def vector_rows(spec: GeneratedSpec, step: int, batch_size: int, split: str = "train") -> VectorRows:
    """Rows step * batch_size ... of a split of a task that has a vector layout."""
    from gridloom.runtime.data.sequences.streams import SequenceStream  # compiles kernels

    layout = vector_layout(spec)
    assert layout is not None, f"{spec.kind} has no vector layout"
    drawn = SequenceStream(spec).batch(step, batch_size, split)
    inputs = np.zeros((batch_size, layout.num_steps, layout.num_features), dtype=np.float32)
    per_row = layout.answers if layout.whole else layout.num_steps * layout.answers
    labels = np.zeros((batch_size, per_row), dtype=np.uint8)
    classes = np.where(drawn.labels < 0, 0, drawn.labels + 1)
    if isinstance(spec, ParityData):
        labels[:, 0] = classes
        if spec.layout == "vector":
            inputs[:, 0, : spec.bits] = drawn.inputs
            valid = np.ones(batch_size, dtype=np.int32)
        else:
            inputs[:, : spec.bits, 0] = drawn.inputs
            # entries in any places end with the last possible one, those of a prefix with their number
            valid = drawn.lengths if spec.placement == "prefix" else np.full_like(drawn.lengths, spec.bits)
    elif isinstance(spec, AdditionData):
        inputs[:], labels[:], valid = drawn.inputs, classes.reshape(batch_size, -1), drawn.lengths
    elif isinstance(spec, LogicData):
        inputs[:], labels[:], valid = drawn.inputs, classes, drawn.lengths
    else:
        # the answer begins in the step after the question
        ends = drawn.lengths
        if isinstance(spec, SortData):
            inputs[:, : drawn.inputs.shape[1]] = drawn.inputs
        else:
            assert isinstance(spec, CopyData | StringAdditionData), spec.kind
            features, class_of = _tables(spec)
            hot = features[drawn.inputs]
            rows, places = np.nonzero(hot >= 0)
            inputs[rows, places, hot[rows, places]] = 1.0
            classes, ends = class_of[drawn.labels], drawn.lengths + 1
        rows, places = np.nonzero(classes)
        labels[rows, ends[rows] + places] = classes[rows, places]
        valid = ends + (classes > 0).sum(axis=1)
    return VectorRows(inputs, labels, np.zeros(batch_size, dtype=np.int32), drawn.lengths, valid.astype(np.int32))
