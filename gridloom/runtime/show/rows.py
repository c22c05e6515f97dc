"""Rows that training draws from a data entry at a step, as a sheet of grids or as lines of text."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.sampler import Sampler
from gridloom.runtime.data.built.order import open_sources, order_of
from gridloom.runtime.data.files.arrays import box
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet, build_puzzles, load_puzzles
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.puzzles.tables import SPLITS
from gridloom.runtime.data.sequences.artifact import GeneratedSpec, SequenceSpec
from gridloom.runtime.data.sequences.tokens import token_layout, token_rows
from gridloom.runtime.show.entries import DataEntry
from gridloom.runtime.show.look import Panel, Sheet
from gridloom.runtime.show.sequence_lines import sequence_lines
from gridloom.specs.built import FIRST_CLASS, FIRST_COLOUR, BuiltData
from gridloom.specs.data import ArcData
from gridloom.specs.puzzles import MazeData, SudokuData

MAZE_LOOK = np.array([0, 5, 0, 3, 2, 1], dtype=np.uint8)
"""ARC colour of each maze token: walls grey, S green, G red, the path blue."""
MAZE_GLYPHS = " oGS #    "
SUDOKU_GLYPHS = ".123456789"


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """Sample of rows as a sheet of grids or as lines of text."""

    title: str
    sheet: Sheet | None = None
    lines: tuple[str, ...] = ()


def draw_rows(entry: DataEntry, step: int, num: int, split: str = "train", seed: int | None = None) -> RowSample:
    """Return rows step * num ... of the stream of a training stage, or of the test split. Raises DataError."""
    if split not in SPLITS:
        raise DataError(f"no split {split!r}", f"write one of: {', '.join(SPLITS)}")
    if isinstance(entry.spec, ArcData):
        return _arc(entry, entry.spec, step, num, split, entry.seed if seed is None else seed)
    if isinstance(entry.spec, MazeData | SudokuData):
        return _puzzles(entry, entry.spec, step, num, split, entry.seed if seed is None else seed)
    if isinstance(entry.spec, BuiltData):
        return _built(entry, entry.spec, step, num, split)
    # sequence streams use the seed of their entry, not that of the training stage
    spec = entry.spec if seed is None else entry.spec.model_copy(update={"seed": seed})
    return _sequences(entry, cast(GeneratedSpec, spec), step, num, split)


def token_rows_of(entry: DataEntry, step: int, num: int, split: str) -> NDArray[np.uint8]:
    """Return the questions of rows step * num ... of a split as tokens, uint8 [num, L].

    Raises DataError for ARC tasks, and for data without a token form.
    """
    spec = entry.spec
    if isinstance(spec, MazeData | SudokuData):
        with tempfile.TemporaryDirectory() as folder:
            build_puzzles(spec, entry.base, Path(folder))
            return _puzzle_rows(entry, load_puzzles(Path(folder)), step, num, split, entry.seed)[0]
    if isinstance(spec, BuiltData):
        order = order_of(spec, open_sources(spec, entry.base), split)
        return order.rows(min(step * num, len(order) - 1), min((step + 1) * num, len(order))).inputs
    if isinstance(spec, ArcData) or token_layout(cast(SequenceSpec, spec)) is None:
        raise DataError(f"{entry.name!r} of kind {spec.kind} has no rows of tokens here", "name puzzles or sequences")
    return token_rows(cast(GeneratedSpec, spec), step, num, split).inputs


def _arc(entry: DataEntry, spec: ArcData, step: int, num: int, split: str, seed: int) -> RowSample:
    if split != "train":
        raise DataError(f"{entry.name!r} is ARC data: only its training rows are drawn", "leave --split out")
    source = read_arc(spec, entry.base)
    dataset = Dataset.of(source, spec)
    sampler = Sampler(dataset, seed)
    batch = sampler.batch(step, num)
    rows = []
    for i in range(num):
        # not from `names`, which would build the names of all puzzle ids
        task_id = source.tasks[batch.task_index[i]].task_id
        name = sampler.views.view(int(batch.puzzle_ids[i]) - 1).name(task_id)
        at = "" if not batch.offsets[i].any() else f" at {tuple(batch.offsets[i].tolist())}"
        sides = [box(side[i].reshape(source.canvas, source.canvas)) for side in (batch.inputs, batch.labels)]
        rows.append((Panel(f"{name} pair {batch.pair_index[i] + 1}{at}", sides[0]), Panel("output", sides[1])))
    epoch, active = sampler.epoch_at(step * num)
    title = (
        f"{entry.name} ({source.version}): rows {step * num} to {(step + 1) * num - 1}, epoch {epoch}, "
        f"{active} of {len(source.tasks)} tasks take part, {sampler.num_puzzles - 1:,} views"
    )
    return RowSample(title, Sheet(title, tuple(rows)))


def _puzzles(entry: DataEntry, spec: MazeData | SudokuData, step: int, num: int, split: str, seed: int) -> RowSample:
    with tempfile.TemporaryDirectory() as folder:
        build_puzzles(spec, entry.base, Path(folder))
        puzzles = load_puzzles(Path(folder))
        inputs, labels = _puzzle_rows(entry, puzzles, step, num, split, seed)
    rows = tuple(
        (_panel(puzzles, f"{split} row {step * num + i}", question), _panel(puzzles, "answer", answer))
        for i, (question, answer) in enumerate(zip(inputs, labels, strict=True))
    )
    counts = ", ".join(f"{name} {len(puzzles.splits[name].inputs):,}" for name in SPLITS if name in puzzles.splits)
    title = f"{entry.name} ({puzzles.kind} {puzzles.size}x{puzzles.size}, {counts})"
    return RowSample(title, Sheet(title, rows))


def _puzzle_rows(
    entry: DataEntry, puzzles: PuzzleSet, step: int, num: int, split: str, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    if split == "train":
        batch = PuzzleSampler(puzzles, seed).batch(step, num)
        return batch.inputs, batch.labels
    if split not in puzzles.splits:
        raise DataError(f"{entry.name!r} has no test puzzles", "raise test, or name a source that has some")
    rows = slice(step * num, (step + 1) * num)
    arrays = puzzles.splits[split]
    if rows.start >= len(arrays.inputs):
        raise DataError(f"{split} of {entry.name!r} has {len(arrays.inputs):,} rows", "ask for a smaller step")
    return np.asarray(arrays.inputs[rows]), np.asarray(arrays.labels[rows])


def _panel(puzzles: PuzzleSet, label: str, tokens: NDArray[np.uint8]) -> Panel:
    maze = puzzles.kind == "maze"
    cells = MAZE_LOOK[tokens] if maze else tokens - np.uint8(1)
    return Panel(label, cells.reshape(puzzles.size, puzzles.size), MAZE_GLYPHS if maze else SUDOKU_GLYPHS)


def _built(entry: DataEntry, spec: BuiltData, step: int, num: int, split: str) -> RowSample:
    """Encode rows without a store, as questions and answers between quotes, or as grids."""
    order = order_of(spec, open_sources(spec, entry.base), split)
    first = step * num
    if first >= len(order):
        raise DataError(f"{split} of {entry.name!r} has {len(order):,} rows", "ask for a smaller step")
    found = order.rows(first, min(first + num, len(order)))
    title = f"{entry.name} ({spec.kind}): {split} rows {first} to {first + len(found.inputs) - 1} of {len(order):,}"
    pairs = zip(found.inputs, found.labels, strict=True)
    if spec.form == "text":
        lines = tuple(f"{_quoted(question)} -> {_quoted(answer)}" for question, answer in pairs)
        return RowSample(title, lines=lines)
    side = (spec.canvas, spec.canvas)
    return RowSample(title, lines=tuple("\n".join(_cells(q.reshape(side), a.reshape(side))) for q, a in pairs))


def _quoted(tokens: NDArray[np.uint8]) -> str:
    return repr(bytes(tokens[tokens != 0]).decode(errors="replace"))


def _cells(question: NDArray[np.uint8], answer: NDArray[np.uint8]) -> list[str]:
    """Return a line for each row of cells: the question's levels, and the answer's, or its class as `=7`."""

    def cell(token: int) -> str:
        if token >= FIRST_CLASS:
            return f"={token - FIRST_CLASS}"
        return " ." if token == 0 else f"{token - FIRST_COLOUR:2d}"

    lines = zip(question.tolist(), answer.tolist(), strict=True)
    return [f"{' '.join(map(cell, left))}   ->   {' '.join(map(cell, right))}" for left, right in lines]


def _sequences(entry: DataEntry, spec: GeneratedSpec, step: int, num: int, split: str) -> RowSample:
    lines = sequence_lines(spec, step, num, split)
    return RowSample(f"{entry.name} ({spec.kind}): {split} rows {step * num} to {(step + 1) * num - 1}", lines=lines)
