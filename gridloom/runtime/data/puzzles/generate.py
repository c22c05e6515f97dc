"""Generator of maze and sudoku sets: distinct puzzles, no test puzzle equal to a training puzzle under a symmetry."""

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
"""Consecutive trials without a new puzzle after which generation fails."""

_TEST_CLASSES = 4
"""One in this many new symmetry classes is reserved for testing: 9 of the 36 classes of minimal 4x4 sudokus."""


@dataclass(frozen=True, slots=True, eq=False)
class _Generated:
    """Puzzles of one generator call."""

    inputs: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    cells: Sequence[int]
    """Keys of the puzzles' cells."""
    classes: Sequence[int]
    """Keys of the puzzles' symmetry classes."""
    next_trial: int
    """Number of the next trial."""


Generator = Callable[[int, int, int], _Generated]
"""(first trial, trials, wanted puzzles) -> puzzles."""


def generate_mazes(spec: MazeData) -> Tables:
    """Return training and test mazes, pairwise distinct under rotations and reflections. Raises DataError."""
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
    """Return distinct training and test sudokus, the splits separated by `spec.apart`. Raises DataError."""
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
    """Return 64 bits of a BLAKE2b digest, equal in every process."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


class _SplitAssigner:
    """Assignment of new puzzles to splits, in the order of trials."""

    def __init__(self, spec: MazeData | SudokuData, apart: bool) -> None:
        self._limits = {"train": spec.train, "test": spec.test}
        self._apart = apart
        self._split_of: dict[int, str] = {}
        self._num_test_classes = 0
        self.rows: dict[str, list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]] = {"train": [], "test": []}

    @property
    def num_rows(self) -> int:
        """Number of puzzles taken so far."""
        return sum(len(rows) for rows in self.rows.values())

    def take(self, key: int, row: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> bool:
        """Add the puzzle of a symmetry class to its split; return False if the split is full."""
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
    """Take puzzles in the order of their trials, without repeats, until both splits are full. Raises DataError."""
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
