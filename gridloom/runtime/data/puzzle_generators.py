"""Generate maze and sudoku sets: distinct puzzles, no test puzzle among the training puzzles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data import maze_kernels, sudoku_kernels
from gridloom.runtime.data.puzzles import Tables, box_of
from gridloom.specs.puzzles import MazeData, SudokuData

_CHUNK = 256
_PATIENCE = 20_000
"""Trials in a row without a new puzzle after which the conditions are called impossible."""

Try = Callable[[int, int, int], tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint64], int]]
"""(first trial, trials, wanted) -> inputs, labels, keys that tell puzzles apart, next trial."""


def generate_mazes(spec: MazeData) -> Tables:
    """Training and test mazes; no two are equal under rotations and reflections. Raises DataError."""
    key = np.uint64(spec.seed)
    cells = spec.size * spec.size

    def attempt(first: int, trials: int, wanted: int) -> Any:
        inputs, labels = np.zeros((wanted, cells), dtype=np.uint8), np.zeros((wanted, cells), dtype=np.uint8)
        made, onward = maze_kernels.make_mazes(
            key, first, trials, spec.size, spec.min_length, spec.min_branches, spec.loops, inputs, labels
        )
        return inputs[:made], labels[:made], maze_kernels.dihedral_keys(inputs[:made], spec.size), onward

    return _distinct(spec, attempt, "lower min_length, min_branches or the counts, or raise size")


def generate_sudokus(spec: SudokuData) -> Tables:
    """Training and test sudokus, all different. Raises DataError."""
    key = np.uint64(spec.seed)
    cells = spec.size * spec.size
    max_clues = cells if spec.max_clues is None else spec.max_clues

    def attempt(first: int, trials: int, wanted: int) -> Any:
        puzzles, answers = np.zeros((wanted, cells), dtype=np.uint8), np.zeros((wanted, cells), dtype=np.uint8)
        made, onward = sudoku_kernels.make_sudokus(
            key, first, trials, spec.size, *box_of(spec.size), max_clues, spec.min_guesses, puzzles, answers,
            np.zeros(wanted, dtype=np.int32),
        )  # fmt: skip
        told = puzzles[:made]
        keys = np.array([hash_bytes(row.tobytes()) for row in told], dtype=np.uint64)
        return told + np.uint8(1), answers[:made] + np.uint8(1), keys, onward

    return _distinct(spec, attempt, "raise max_clues, lower min_guesses or the counts")


def hash_bytes(content: bytes) -> int:
    """64 bits of a digest, the same in every process."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _distinct(spec: MazeData | SudokuData, attempt: Try, remedy: str) -> Tables:
    """Take puzzles in the order of their trials, skipping repeats, until both splits are full."""
    wanted = spec.train + spec.test
    seen: set[int] = set()
    inputs: list[NDArray[np.uint8]] = []
    labels: list[NDArray[np.uint8]] = []
    trial = latest = 0
    while len(seen) < wanted:
        ask = min(_CHUNK, wanted - len(seen))
        found, answers, keys, trial = attempt(trial, _PATIENCE, ask)
        for row, answer, key in zip(found, answers, keys.tolist(), strict=True):
            if key not in seen:
                seen.add(key)
                inputs.append(row)
                labels.append(answer)
                latest = trial
        if trial - latest >= _PATIENCE:
            raise DataError(
                f"only {len(seen):,} of {wanted:,} {spec.kind} puzzles of size {spec.size} found in {trial:,} trials",
                remedy,
            )
    cells = spec.size * spec.size
    asked, told = (np.array(rows, dtype=np.uint8).reshape(wanted, cells) for rows in (inputs, labels))
    cut = spec.train
    return {"train": (asked[:cut], told[:cut]), "test": (asked[cut:], told[cut:])}
