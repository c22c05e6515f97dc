"""Items of the data that a checkpoint is stepped through on: a row for the network, and how its answers are shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gridloom.errors import DataError, ModelError, StageError
from gridloom.runtime.checkpoints.bundle import Bundle
from gridloom.runtime.checkpoints.description import data_kind
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.packing.row_shapes import ShapeRule
from gridloom.runtime.data.arc.tokens import crop_batch, encode
from gridloom.runtime.data.arc.views import IDENTITY
from gridloom.runtime.data.built.rows import num_rows
from gridloom.runtime.data.files.grids import rows as grid_rows
from gridloom.runtime.data.puzzles.puzzle_file import puzzle_text
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet, load_puzzles
from gridloom.runtime.data.sequences.artifact import SequenceSpec, load_sequences
from gridloom.runtime.data.tasks import fitting_canvas
from gridloom.runtime.models.sequence_rows import sequence_rows
from gridloom.runtime.models.steps import Rows
from gridloom.runtime.show.answer_words import answer_words
from gridloom.runtime.show.sequence_lines import sequence_lines
from gridloom.specs.built import BuiltData
from gridloom.view.drawing.puzzles import puzzle_look, value_of

ENDLESS = 100_000
"""Items of a stream of sequences that can be chosen."""
SPLIT = "test"

Grid = list[list[int]]
Tokens = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Item:
    """Test input, puzzle or sequence."""

    label: str
    rows: Rows
    """One row for the network."""
    question: Any
    """Grid, or the text of a sequence."""
    answer: Any
    """Right answer as `frames` gives one; None where it is held out or not known."""
    frames: Callable[[Tokens], list[Any]]
    """Answers to show of tokens uint8 [N, L]: a grid each, or the words of a sequence."""
    count: int
    """Number of items of the data."""
    letters: str = ""
    """Character of each value of a grid; empty where values are colours."""
    box: str = ""
    """Rows and columns of a sudoku's boxes."""
    notes: tuple[str, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether question and answers are texts, not grids."""
        return isinstance(self.question, str)


def arc_item(bundle: Bundle, data: Dataset, number: int) -> Item:
    """Return a test input of ARC tasks under the identity; known test pairs follow those that are held out.

    Raises GridloomError for a checkpoint of other data, or a number beyond the last.
    """
    _expect(bundle, "arc")
    network = bundle.network
    items = [(task, at) for task in data.tasks for at in range(len(task.tests) + len(task.known))]
    if not 0 <= number < len(items):
        raise DataError(f"no test input {number + 1}: there are {len(items)}", "choose a smaller number")
    task, at = items[number]
    pair = task.known[at - len(task.tests)] if at >= len(task.tests) else None
    question = task.tests[at] if pair is None else pair.input
    canvas = network.canvas if network.packed else fitting_canvas(task, network.sides)
    if max(question.shape) > canvas:
        raise ModelError(
            f"a grid of {question.shape[0]}x{question.shape[1]}, the canvas has {canvas}", "choose another"
        )
    identity = bundle.puzzle_ids.index.get(IDENTITY.name(task.task_id), 0)
    notes = [] if identity else ["this task has no puzzle id in the checkpoint: it runs under the blank id"]
    shapes = None
    if network.packed:
        rectangle = ShapeRule.of(task, canvas).row((question.shape[0], question.shape[1]))
        shapes = torch.tensor([rectangle])
        notes.append(f"packed rows: the network reads and writes a rectangle of {rectangle[0]}x{rectangle[1]} cells")
    rows = Rows(torch.from_numpy(encode(question, canvas)[None]), torch.tensor([identity]), shapes=shapes)

    def frames(tokens: Tokens) -> list[Grid]:
        return [[] if crop is None else grid_rows(crop) for crop in crop_batch(tokens, canvas)]

    answer = None if pair is None else grid_rows(pair.output)
    label = f"task {task.task_id}, test {at + 1}"
    return Item(label, rows, grid_rows(question), answer, frames, len(items), notes=tuple(notes))


def puzzle_item(bundle: Bundle, puzzles: PuzzleSet, number: int) -> Item:
    """Return a puzzle of the test split, of the first split where there is none. Raises GridloomError."""
    _expect(bundle, puzzles.kind)
    split = puzzles.splits.get(SPLIT) or next(iter(puzzles.splits.values()))
    if not 0 <= number < len(split.inputs):
        raise DataError(f"no puzzle {number + 1}: there are {len(split.inputs)}", "choose a smaller number")
    question, label = split.inputs[number], split.labels[number]

    def drawn(tokens: Tokens) -> Grid:
        values = [value_of(puzzles.kind, cell) for cell in puzzle_text(puzzles.kind, tokens.tolist())]
        return [values[at : at + puzzles.size] for at in range(0, puzzles.size**2, puzzles.size)]

    text = puzzle_text(puzzles.kind, question.tolist())
    look = puzzle_look(puzzles.kind, puzzles.size, text, text)
    rows = Rows(torch.from_numpy(question[None].copy()), torch.zeros(1, dtype=torch.int64))
    answer = drawn(label) if label.any() else None
    return Item(
        f"{puzzles.kind} {number + 1}", rows, drawn(question), answer, lambda tokens: [drawn(one) for one in tokens],
        len(split.inputs), look.letters if look else "", look.box if look else "",
    )  # fmt: skip


def sequence_item(bundle: Bundle, spec: SequenceSpec, number: int) -> Item:
    """Return a row of a sequence task's test split, as the network reads it. Raises GridloomError."""
    _expect(bundle, spec.kind)
    network = bundle.network
    count = num_rows(spec, SPLIT) if isinstance(spec, BuiltData) else ENDLESS
    if not 0 <= number < count:
        raise DataError(f"no sequence {number + 1}: there are {count:,}", "choose a smaller number")
    try:
        shape, rows_of = sequence_rows(spec, network.spec.reads, SPLIT)
    except StageError as error:
        raise ModelError(error.message, error.remedy) from error
    if problems := network.problems_with(shape):
        raise ModelError(f"this checkpoint cannot answer these rows: {'; '.join(problems)}", "choose another")
    drawn = rows_of(number, 1)
    as_vectors = drawn.inputs.ndim == 3
    scored = np.flatnonzero(drawn.labels[0])

    def words(tokens: Tokens) -> list[str]:
        return answer_words(spec, as_vectors, tokens[scored].tolist())

    if isinstance(spec, BuiltData):
        question = " ".join(answer_words(spec, False, drawn.inputs[0][drawn.inputs[0] != 0].tolist()))
    else:
        question = sequence_lines(spec, number, 1, SPLIT)[0].rpartition(" -> ")[0]
    valid = None if drawn.valid is None else torch.from_numpy(drawn.valid)
    rows = Rows(torch.from_numpy(drawn.inputs), torch.zeros(1, dtype=torch.int64), None, valid)
    label = f"{spec.kind} {number + 1}, difficulty {int(drawn.lengths[0])}"
    return Item(label, rows, question, words(drawn.labels[0]), lambda tokens: [words(one) for one in tokens], count)


ITEMS: dict[str, tuple[Callable[[Path], Any], Callable[[Bundle, Any, int], Item]]] = {
    "dataset": (load_dataset, arc_item),
    "puzzles": (load_puzzles, puzzle_item),
    "sequences": (load_sequences, sequence_item),
}
"""By type of artifact: the function that reads it, and the one that returns an item of it by its number."""


def _expect(bundle: Bundle, kind: str) -> None:
    found = data_kind(bundle.meta)
    if found != kind:
        raise ModelError(f"this checkpoint was trained on {found} data, not {kind}", "choose another")
