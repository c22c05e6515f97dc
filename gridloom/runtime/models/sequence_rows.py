"""Rows of sequence tasks in a form that a network reads: tokens or vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from gridloom.errors import StageError
from gridloom.runtime.data.sequences.artifact import GeneratedSpec, SequenceSpec
from gridloom.runtime.data.sequences.tokens import TokenRows, token_layout, token_rows
from gridloom.runtime.data.sequences.vectors import VectorRows, vector_layout, vector_rows
from gridloom.runtime.models.kind import RowShape
from gridloom.specs.built import BuiltData
from gridloom.specs.puzzles import AdditionData

SequenceRows = TokenRows | VectorRows


def sequence_rows(
    spec: SequenceSpec, reads: Sequence[str], split: str = "train"
) -> tuple[RowShape, Callable[[int, int], SequenceRows]]:
    """Return the shape of a task's rows in the first form of `reads` that the task has, and (step, batch size) -> rows
    step * batch size ... of a split. Raises StageError for a task without such a form."""
    tokens, vectors = token_layout(spec), vector_layout(spec)
    for form in reads:
        if form == "tokens" and tokens is not None:
            canvas = spec.canvas if isinstance(spec, BuiltData) and spec.form == "grid" else 0
            shape = RowShape(canvas, tokens.num_cells, tokens.vocabulary)
            return shape, lambda step, batch_size: token_rows(spec, step, batch_size, split)
        if form == "vectors" and vectors is not None and not isinstance(spec, BuiltData):
            steps, features, vocabulary, answers, whole = vectors
            shape = RowShape(0, steps, vocabulary, features, answers, whole)
            return shape, partial(_vectors, spec, split)
    raise StageError(
        f"{spec.kind} rows are numbers, not {' or '.join(reads)}, so this network cannot read them",
        "use parity, addition, copy or string_addition",
    )


def _vectors(spec: GeneratedSpec, split: str, step: int, batch_size: int) -> VectorRows:
    return vector_rows(spec, step, batch_size, split)


def most_rows(spec: SequenceSpec, wanted: int, split: str) -> int:
    """Return how many of the wanted rows a split has: all, of an endless stream."""
    if not isinstance(spec, BuiltData):
        return wanted
    from gridloom.runtime.data.built.rows import num_rows

    return min(wanted, num_rows(spec, split))


def answers_of_step(spec: SequenceSpec, shape: RowShape) -> int:
    """Return the number of consecutive label places that answer one step of a task, such as the digits of a sum."""
    if shape.num_features or not isinstance(spec, AdditionData):
        return shape.answers
    return shape.cells // spec.numbers
