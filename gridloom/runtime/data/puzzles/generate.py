"""Generate maze and sudoku sets: distinct puzzles, and no test puzzle that is a training puzzle under a symmetry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.puzzles import maze_kernels, sudoku_kernels
from gridloom.runtime.data.puzzles.sudoku_keys import sudoku_keys
from gridloom.runtime.data.puzzles.tables import Tables, box_of
from gridloom.specs.puzzles import MazeData, SudokuData

_CHUNK = 256
_PATIENCE = 20_000
"""Trials in a row without a new puzzle after which the conditions are called impossible."""

_TEST_CLASSES = 4
"""Every so many new classes one is kept for testing: of the 36 classes of minimal 4x4 sudokus nine are."""


@dataclass(frozen=True, slots=True, eq=False)
class _Generated:
    """What one call of a generator made."""

    inputs: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    cells: Sequence[int]
    """Keys of the puzzles cell by cell."""
    classes: Sequence[int]
    """Keys that a puzzle shares with all that symmetries make of it."""
    next_trial: int
    """The next trial."""


Generator = Callable[[int, int, int], _Generated]
"""(first trial, trials, wanted) -> what was found."""


def generate_mazes(spec: MazeData) -> Tables:
    """Training and test mazes; no two are equal under rotations and reflections. Raises DataError."""
    key = np.uint64(spec.seed)
    cells = spec.size * spec.size

    def attempt(first: int, trials: int, wanted: int) -> _Generated:
        inputs, labels = np.zeros((wanted, cells), dtype=np.uint8), np.zeros((wanted, cells), dtype=np.uint8)
        made, next_trial = maze_kernels.make_mazes(
            key, first, trials, spec.size, spec.min_length, spec.min_branches, spec.loops, inputs, labels
        )
        keys = maze_kernels.dihedral_keys(inputs[:made], spec.size).tolist()
        return _Generated(inputs[:made], labels[:made], keys, keys, next_trial)

    remedy = "lower min_length, min_branches or the counts, or raise size"
    return _fill(spec, attempt, _SplitAssigner(spec, apart=False), remedy)


def generate_sudokus(spec: SudokuData) -> Tables:
    """Training and test sudokus, all different and the two kept apart as `spec.apart` says. Raises DataError."""
    key = np.uint64(spec.seed)
    cells = spec.size * spec.size
    max_clues = cells if spec.max_clues is None else spec.max_clues

    def attempt(first: int, trials: int, wanted: int) -> _Generated:
        puzzles, answers = np.zeros((wanted, cells), dtype=np.uint8), np.zeros((wanted, cells), dtype=np.uint8)
        made, next_trial = sudoku_kernels.make_sudokus(
            key,
            first,
            trials,
            spec.size,
            *box_of(spec.size),
            max_clues,
            spec.spare_clues,
            spec.min_guesses,
            puzzles,
            answers,
            np.zeros(wanted, dtype=np.int32),
        )
        questions, answered = puzzles[:made], answers[:made]
        keys = [hash_bytes(row.tobytes()) for row in questions]
        apart = spec.apart == "symmetry"
        classes = sudoku_keys(questions, answered, spec.size, *box_of(spec.size)).tolist() if apart else keys
        return _Generated(questions + np.uint8(1), answered + np.uint8(1), keys, classes, next_trial)

    assigner = _SplitAssigner(spec, apart=spec.apart == "symmetry")
    return _fill(spec, attempt, assigner, "raise max_clues, lower spare_clues, min_guesses or the counts")


def hash_bytes(content: bytes) -> int:
    """64 bits of a digest, the same in every process."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


class _SplitAssigner:
    """Decides whether a new puzzle trains or tests; both splits fill up in the order of trials."""

    def __init__(self, spec: MazeData | SudokuData, apart: bool) -> None:
        self._limits = {"train": spec.train, "test": spec.test}
        self._apart = apart
        self._split_of: dict[int, str] = {}
        self._num_test_classes = 0
        self.rows: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = {"train": [], "test": []}

    @property
    def num_rows(self) -> int:
        """Puzzles taken so far."""
        return sum(len(rows) for rows in self.rows.values())

    def take(self, key: int, row: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> bool:
        """Give the puzzle of a class to its split, unless that is full."""
        split = self._split(key)
        if self._full(split):
            return False
        self.rows[split].append(row)
        return True

    def _split(self, key: int) -> str:
        if not self._apart:
            return "test" if self._full("train") else "train"
        if key not in self._split_of:
            due = self._num_test_classes * _TEST_CLASSES <= len(self._split_of)
            split = "test" if self._full("train") or (due and not self._full("test")) else "train"
            self._split_of[key] = split
            self._num_test_classes += split == "test"
        return self._split_of[key]

    def _full(self, split: str) -> bool:
        return len(self.rows[split]) >= self._limits[split]


def _fill(spec: MazeData | SudokuData, attempt: Generator, assigner: _SplitAssigner, remedy: str) -> Tables:
    """Take puzzles in the order of their trials, skipping repeats, until both splits are full."""
    wanted = spec.train + spec.test
    seen: set[int] = set()
    trial = latest = 0
    while assigner.num_rows < wanted:
        ask = min(_CHUNK, wanted - assigner.num_rows)
        found = attempt(trial, _PATIENCE, ask)
        trial = found.next_trial
        for i, (cells, its_class) in enumerate(zip(found.cells, found.classes, strict=True)):
            if cells not in seen and assigner.take(its_class, (found.inputs[i], found.labels[i])):
                seen.add(cells)
                latest = trial
        if trial - latest >= _PATIENCE:
            raise DataError(
                f"only {assigner.num_rows:,} of {wanted:,} {spec.kind} puzzles of size {spec.size} found in "
                f"{trial:,} trials ({len(assigner.rows['train']):,} to train, {len(assigner.rows['test']):,} to test)",
                remedy,
            )
    cells = spec.size * spec.size

    def table(split: str, side: int) -> NDArray[np.uint8]:
        rows = [row[side] for row in assigner.rows[split]]
        return np.array(rows, dtype=np.uint8).reshape(len(rows), cells)

    return {split: (table(split, 0), table(split, 1)) for split in ("train", "test")}
