"""Test rows of a halting study: puzzles or sequences in batches, each row with measures of its difficulty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError, StageError
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet, load_puzzles
from gridloom.runtime.data.puzzles.tables import MAZE_TOKENS, box_of
from gridloom.runtime.data.sequences.artifact import SequenceSpec, load_sequences
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.sequence_rows import most_rows, sequence_rows
from gridloom.specs.validation import DEFAULT_ROWS, TEST
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True, eq=False)
class StudyRows:
    """Rows of a batch, all with known answers."""

    inputs: NDArray[Any]
    """uint8 [B, L] tokens, or fp32 [B, T, F] vectors."""
    labels: NDArray[np.uint8]
    """Labels in the shape of `Rows.labels`; 0 is not scored."""
    valid: NDArray[np.int32] | None
    """int32 [B], valid time steps; None where all are valid."""
    difficulty: dict[str, NDArray[np.float64]]
    """float64 [B] by measure, such as the length of a maze's path in steps."""


@dataclass(frozen=True, slots=True)
class StudyData:
    """Test rows of a dataset."""

    kind: str
    """Kind of the data entry: maze, sudoku, parity, ..."""
    shape: RowShape
    digest: str
    total: int
    """Number of rows to answer."""
    rows: Callable[[int, int], StudyRows]
    """(first row, end) -> rows."""


def study_data(artifact: Artifact, reads: Sequence[str], limit: int | None) -> StudyData:
    """Open the test rows of puzzles or of a sequence task.

    Args:
        reads: kinds of rows that the network reads, preferred first: 'tokens', 'vectors'.

    Raises:
        DataError: there are no test puzzles, or some of their answers are not known.
        StageError: ARC tasks, or rows in no form that the network reads.
    """
    if artifact.type == "puzzles":
        return _puzzles(load_puzzles(artifact.path), limit)
    if artifact.type == "sequences":
        return _sequences(load_sequences(artifact.path), reads, limit)
    raise StageError(
        "a halting study answers mazes, sudokus and sequence tasks, not ARC tasks",
        "evaluate ARC tasks with  kind: evaluate  and its act_steps and halt",
    )


def _puzzles(puzzles: PuzzleSet, limit: int | None) -> StudyData:
    if TEST not in puzzles.splits:
        raise DataError(f"this {puzzles.kind} set has no test puzzles", "raise test, or give its source some")
    arrays = puzzles.splits[TEST]
    total = min(len(arrays.inputs), limit or len(arrays.inputs))
    unknown = np.flatnonzero(~np.asarray(arrays.labels[:total]).any(axis=1))
    if len(unknown):
        raise DataError(
            f"the answer of test puzzle {unknown[0]} is not known, so halting cannot be compared with it",
            "study puzzles whose answers are known",
        )

    def rows(first: int, end: int) -> StudyRows:
        inputs, labels = (np.array(table[first:end], dtype=np.uint8) for table in (arrays.inputs, arrays.labels))
        return StudyRows(inputs, labels, None, puzzle_difficulty(puzzles.kind, puzzles.size, inputs, labels))

    return StudyData(puzzles.kind, RowShape(puzzles.size, puzzles.size**2, puzzles.vocab), puzzles.digest, total, rows)


def puzzle_difficulty(
    kind: str, size: int, inputs: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """Return the measures of difficulty of puzzles.

    Mazes: `path_length`, steps from S to G. Sudokus: `blanks`, and `guesses` of the reference solver, wrong ones
    included, after all naked and hidden singles.
    """
    if kind == "maze":
        path = MAZE_TOKENS.index("o") + 1
        return {"path_length": (labels == path).sum(axis=1).astype(np.float64) + 1}
    from gridloom.runtime.data.puzzles.sudoku_kernels import count_guesses  # compiles a kernel

    guesses = [count_guesses(board - 1, size, *box_of(size)) for board in inputs]
    return {
        "blanks": (inputs == 1).sum(axis=1).astype(np.float64),
        "guesses": np.array(guesses, dtype=np.float64),
    }


def _sequences(spec: SequenceSpec, reads: Sequence[str], limit: int | None) -> StudyData:
    from gridloom.runtime.data.sequences.artifact import sequences_digest

    total = most_rows(spec, limit or DEFAULT_ROWS, TEST)
    shape, draw = sequence_rows(spec, reads, TEST)
    drawn = draw(0, total)

    def rows(first: int, end: int) -> StudyRows:
        valid = None if drawn.valid is None else drawn.valid[first:end]
        length = {"length": drawn.lengths[first:end].astype(np.float64)}
        return StudyRows(drawn.inputs[first:end], drawn.labels[first:end], valid, length)

    return StudyData(spec.kind, shape, sequences_digest(spec), total, rows)
