"""Maze and sudoku sets: generation or reading, validation, publication in the reference's array layout.

numba is imported only to generate and to validate.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom import user_files
from gridloom.errors import DataError
from gridloom.runtime.data.files.arrays import SET, SplitArrays, check_tokens, is_array_folder, read_split
from gridloom.runtime.data.files.formats import FORMAT_VERSION, check_format, write_json
from gridloom.runtime.data.files.json_files import load_json, read_bytes
from gridloom.runtime.data.puzzles.puzzle_file import read_puzzle_file
from gridloom.runtime.data.puzzles.tables import MAZE_TOKENS, SPLITS, Tables, box_of, vocab_of
from gridloom.specs.puzzles import MazeData, SudokuData

GENERATOR = 1
"""Version of the generators, incremented when a seed gives different puzzles."""
_META = "meta.json"


@dataclass(frozen=True, slots=True, eq=False)
class PuzzleSet:
    """Puzzles as tokens, by split. A group is a puzzle with its variants in the folder; generated puzzles have none."""

    kind: str
    """Kind: maze or sudoku."""
    size: int
    vocab: int
    splits: dict[str, SplitArrays]
    augment: bool
    """True if training rows are drawn under random symmetries."""
    digest: str


def puzzles_digest(spec: MazeData | SudokuData, base: Path) -> str:
    """Return the sha256 of the generator's parameters, or of the bytes of the source. Imports no numba."""
    parameters = spec.model_dump(mode="json", exclude={"source", "dihedral", "shuffle"})
    if parameters.get("apart") == "cells":
        # sets of this kind are older than the field, and still the same
        del parameters["apart"]
    if parameters.get("spare_clues") == 0:
        del parameters["spare_clues"]  # likewise
    state = hashlib.sha256(f"gridloom {spec.kind} {GENERATOR}\n".encode())
    if spec.source is None:
        state.update(json.dumps(parameters, sort_keys=True).encode())
        return state.hexdigest()
    state.update(f"{spec.train} {spec.test}\n".encode())
    folder = _folder(spec.source, base)
    if user_files.is_file(folder):
        state.update(hashlib.sha256(read_bytes(folder)).digest())
        return state.hexdigest()
    files = sorted(p for pattern in ("*/all__*.npy", "*/dataset.json", "*.csv") for p in folder.glob(pattern))
    if not files:
        raise DataError(
            f"{spec.source}: no {spec.kind} arrays or CSV files",
            f"looked for train/all__inputs.npy, train.csv in {folder}",
        )
    for path in files:
        state.update(f"{path.relative_to(folder)}\n".encode() + hashlib.sha256(read_bytes(path)).digest())
    return state.hexdigest()


def _folder(source: str, base: Path) -> Path:
    try:
        return user_files.named_path(source, base)
    except OSError as problem:
        remedy = "name a folder of arrays or CSV files"
        raise DataError(f"cannot read the data source {source!r:.200}: {problem.strerror}", remedy) from None


def puzzles_size(spec: MazeData | SudokuData, base: Path) -> tuple[int, dict[str, int]]:
    """Return the side in cells and the number of puzzles by split, without generating any. Raises DataError."""
    if spec.source is None:
        return spec.size, {"train": spec.train, "test": spec.test}
    tables = read_source(spec, _folder(spec.source, base), judge=False)
    return _side(tables), {"train": 0, **{split: len(pair[0]) for split, pair in tables.items()}}


def _side(tables: Tables) -> int:
    return math.isqrt(next(iter(tables.values()))[0].shape[1])


def build_puzzles(spec: MazeData | SudokuData, base: Path, out: Path) -> dict[str, Any]:
    """Write the artifact: {train,test}/all__*.npy, dataset.json, identifiers.json, meta.json. Return its meta.

    Raises DataError for a damaged source, for a puzzle that its answer does not solve, and for conditions that the
    generator cannot meet.
    """
    digest = puzzles_digest(spec, base)
    if spec.source is not None:
        tables = read_source(spec, _folder(spec.source, base))
    else:
        from gridloom.runtime.data.puzzles.generate import generate_mazes, generate_sudokus

        tables = generate_mazes(spec) if isinstance(spec, MazeData) else generate_sudokus(spec)
    size = _side(tables)
    vocab = vocab_of(spec.kind, size)
    for split, (inputs, labels) in tables.items():
        write_split(out / split, inputs, labels, vocab)
    (out / "identifiers.json").write_text('["<blank>"]')
    meta = {
        "format_version": FORMAT_VERSION,
        "kind": spec.kind,
        "size": size,
        "vocab": vocab,
        "augment": spec.dihedral if isinstance(spec, MazeData) else spec.shuffle,
        "digest": digest,
        "num_puzzles": {split: len(inputs) for split, (inputs, _) in tables.items()},
    }
    write_json(out / _META, meta)
    return meta if spec.source is None else {**meta, "test_met": num_overlapping(spec.kind, tables)}


def num_overlapping(kind: str, tables: Tables) -> int:
    """Count test puzzles that equal a training puzzle under a symmetry: dihedral for mazes; digits, rows, columns,
    bands, stacks and transposition for sudokus."""
    if "test" not in tables or "train" not in tables:
        return 0
    train, test = (symmetry_keys(kind, *tables[split]) for split in ("train", "test"))
    return int(np.isin(test, train).sum())


def symmetry_keys(kind: str, inputs: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a key of the symmetry class of each puzzle: uint64 [N]."""
    size = round(inputs.shape[1] ** 0.5)
    if kind == "maze":
        from gridloom.runtime.data.puzzles.maze_kernels import dihedral_keys

        keys: NDArray[np.uint64] = dihedral_keys(inputs, size)
    else:
        from gridloom.runtime.data.puzzles.sudoku_keys import sudoku_keys

        keys = sudoku_keys(inputs - 1, labels - 1, size, *box_of(size))
    return keys


def load_puzzles(path: Path) -> PuzzleSet:
    """Return the puzzles of an artifact. Raises DataError when the artifact is damaged or has a newer format."""
    meta = load_json(path / _META)
    check_format(path / _META, meta)
    try:
        splits = {split: read_split(path, split) for split, count in meta["num_puzzles"].items() if count}
        return PuzzleSet(meta["kind"], meta["size"], meta["vocab"], splits, meta["augment"], meta["digest"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path}: not a puzzle artifact ({problem!r})", "remove the artifact and run again") from None


def write_split(folder: Path, inputs: NDArray[np.uint8], labels: NDArray[np.uint8], vocab: int) -> None:
    """Write one split of single-row puzzles, one per group, in the reference's array layout."""
    try:
        folder.mkdir(parents=True)
        num = len(inputs)
        arrays: dict[str, NDArray[Any]] = {
            "inputs": inputs,
            "labels": labels,
            "puzzle_identifiers": np.zeros(num, dtype=np.int32),
            "puzzle_indices": np.arange(num + 1, dtype=np.int32),
            "group_indices": np.arange(num + 1, dtype=np.int32),
        }
        for field, array in arrays.items():
            np.save(folder / f"{SET}__{field}.npy", array)
        meta = {
            "pad_id": 0,
            "ignore_label_id": 0,
            "blank_identifier_id": 0,
            "vocab_size": vocab,
            "seq_len": inputs.shape[1],
            "num_puzzle_identifiers": 1,
            "total_groups": num,
            "mean_puzzle_examples": 1.0,
            "total_puzzles": num,
            "sets": [SET],
        }
        (folder / "dataset.json").write_text(json.dumps(meta))
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written: {problem.strerror}", "free space or check the rights") from None


def read_source(spec: MazeData | SudokuData, folder: Path, judge: bool = True, variants: bool = False) -> Tables:
    """Read arrays, CSV files or a file of puzzles up to the counts of `spec`; with `judge`, validate each known answer.

    The first row of a group is the puzzle itself; `variants` reads the other rows too. Raises DataError.
    """
    if folder.is_file():
        tables = read_puzzle_file(spec, folder)
    else:
        tables = _read_arrays(spec, folder, variants) if is_array_folder(folder) else _read_csv(spec, folder)
    limit = {"train": spec.train, "test": spec.test}
    tables = {split: (inputs[: limit[split]], labels[: limit[split]]) for split, (inputs, labels) in tables.items()}
    for split, (inputs, labels) in tables.items() if judge else ():
        _judge(spec, f"{folder}" if folder.is_file() else f"{folder / split}", inputs, labels)
    return tables


def solves(kind: str, inputs: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return whether each answer solves its puzzle, bool [N]: a sudoku by its rules with all clues kept, a maze by one
    shortest path. No right answer is needed.

    Args:
        answers: uint8 [N, L] tokens; those of a network may be of no cell.
    """
    size = round(inputs.shape[1] ** 0.5)
    least, most = (1, len(MAZE_TOKENS)) if kind == "maze" else (2, size + 1)
    whole = ((answers >= least) & (answers <= most)).all(axis=1)
    found = np.zeros(len(inputs), dtype=np.bool_)
    if whole.any():
        found[whole] = _faults(kind, inputs[whole], answers[whole]) == 0
    return found


def _faults(kind: str, inputs: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the fault of each answer, int32 [N]; 0 for a right one."""
    size = round(inputs.shape[1] ** 0.5)
    if kind == "maze":
        from gridloom.runtime.data.puzzles import maze_kernels

        mazes: NDArray[np.int32] = maze_kernels.judge_mazes(inputs, labels, size)[:, 0]
        return mazes
    from gridloom.runtime.data.puzzles import sudoku_kernels

    sudokus: NDArray[np.int32] = sudoku_kernels.judge_sudokus(inputs - 1, labels - 1, size, *box_of(size))
    return sudokus


def _read_arrays(spec: MazeData | SudokuData, folder: Path, variants: bool) -> Tables:
    tables: Tables = {}
    for split in SPLITS:
        if not (folder / split).is_dir():
            continue
        arrays = read_split(folder, split)
        check_tokens(arrays)
        size = round(arrays.meta["seq_len"] ** 0.5)
        vocab = vocab_of(spec.kind, size)
        known = size * size == arrays.meta["seq_len"] and (isinstance(spec, MazeData) or size in (4, 6, 9))
        if not known or arrays.meta["vocab_size"] != vocab:
            raise DataError(
                f"{folder / split}: {arrays.meta['seq_len']} tokens of a vocabulary of {arrays.meta['vocab_size']} are "
                f"no {spec.kind}",
                "name another kind or another folder",
            )
        # variants are not read: training draws them
        rows = slice(None) if variants else arrays.puzzle_indices[arrays.group_indices[:-1]]
        tables[split] = (arrays.inputs[rows].astype(np.uint8), arrays.labels[rows].astype(np.uint8))
    return tables


def _read_csv(spec: MazeData | SudokuData, folder: Path) -> Tables:
    tables: Tables = {}
    for split in SPLITS:
        path = folder / f"{split}.csv"
        if not path.is_file():
            continue
        sides: list[list[bytes]] = [[], []]
        # spaces are cells of a maze, so nothing is stripped
        text = read_bytes(path).decode("ascii", errors="replace")
        for number, row in enumerate(csv.reader(text.splitlines()), start=1):
            if number == 1:
                if len(row) == 4 and len(row[1]) == len(row[2]) and round(len(row[1]) ** 0.5) ** 2 == len(row[1]) > 8:
                    raise DataError(
                        f"{path}:1: a puzzle where the header source,question,answer,rating should be", "add the header"
                    )
                continue
            if len(row) != 4 or len(row[1]) != len(row[2]) or round(len(row[1]) ** 0.5) ** 2 != len(row[1]):
                raise DataError(
                    f"{path}:{number}: not source,question,answer,rating with squares of one size", "correct the line"
                )
            if sides[0] and len(row[1]) != len(sides[0][0]):
                raise DataError(
                    f"{path}:{number}: {len(row[1])} cells, others have {len(sides[0][0])}", "correct the line"
                )
            sides[0].append(row[1].encode())
            sides[1].append(row[2].encode())
        if not sides[0]:
            raise DataError(f"{path}: no puzzles", "remove the file or fill it")
        tables[split] = (_tokens(spec, path, sides[0]), _tokens(spec, path, sides[1]))
    if "train" not in tables:
        raise DataError(f"{folder}: no train.csv", "name a folder with train.csv or train/all__inputs.npy")
    return tables


def _tokens(spec: MazeData | SudokuData, path: Path, lines: Sequence[bytes]) -> NDArray[np.uint8]:
    table = np.zeros(256, dtype=np.uint8)
    alphabet = MAZE_TOKENS if isinstance(spec, MazeData) else "0123456789"
    for number, character in enumerate(alphabet, start=1):
        table[ord(character)] = number
    if isinstance(spec, SudokuData):
        table[ord(".")] = 1
    text = np.frombuffer(b"".join(lines), dtype=np.uint8).reshape(len(lines), -1)
    tokens = table[text]
    if not tokens.all():
        row, place = (int(i) for i in np.argwhere(tokens == 0)[0])
        raise DataError(f"{path}:{row + 2}: character {place + 1} is {chr(text[row, place])!r}", f"use {alphabet!r}")
    return tokens


def _judge(spec: MazeData | SudokuData, place: str, inputs: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
    """Raise DataError that names the first puzzle that its label does not solve."""
    descriptions: tuple[str, ...] = (
        (
            "",
            "not one S and one G",
            "the answer differs beside the path",
            "no way from S to G",
            "no shortest path",
        )
        if isinstance(spec, MazeData)
        else ("", "the answer is not a valid sudoku", "the answer does not extend the puzzle")
    )
    # the answers of a file of puzzles may be unknown
    known = np.flatnonzero(labels.any(axis=1))
    faults = np.zeros(len(inputs), dtype=np.int32)
    faults[known] = _faults(spec.kind, inputs[known], labels[known])
    wrong = np.flatnonzero(faults)
    if len(wrong):
        raise DataError(
            f"{place}: puzzle {wrong[0] + 1} of {len(inputs)}: {descriptions[faults[wrong[0]]]}",
            "correct or remove the puzzle",
        )
