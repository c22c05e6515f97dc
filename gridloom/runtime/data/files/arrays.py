"""Array folders of TinyRecursiveModels and the halting lab: DIR/{train,test}/all__*.npy, dataset.json; numpy only."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridloom import user_files
from gridloom.errors import DataError
from gridloom.runtime.data.files.grids import GridLocation
from gridloom.runtime.data.files.json_files import load_json
from gridloom.runtime.data.tasks import SEPARATOR, Grid

SET = "all"
"""Set name, the only one that builders write."""
CANVAS = 30


@dataclass(frozen=True, slots=True, eq=False)
class SplitArrays:
    """Validated arrays of one split: indices ascend to the number of rows, puzzle ids are in range."""

    folder: Path
    meta: dict[str, Any]
    """Content of dataset.json."""
    inputs: NDArray[np.uint8]
    """uint8 or int64 [N, L], memory-mapped."""
    labels: NDArray[np.uint8]
    puzzle_identifiers: NDArray[np.int32]
    """int32 [puzzles], id of each puzzle (not of each row)."""
    puzzle_indices: NDArray[np.int32]
    """int32 [puzzles + 1], first row of each puzzle."""
    group_indices: NDArray[np.int32]
    """int32 [groups + 1], first puzzle of each group, which is one task or puzzle with all its variants."""

    def rows(self, puzzle: int) -> slice:
        """Return the rows of one puzzle."""
        return slice(int(self.puzzle_indices[puzzle]), int(self.puzzle_indices[puzzle + 1]))


def is_array_folder(folder: Path) -> bool:
    """Return whether a folder has the files of a builder's array folder."""
    return (folder / "identifiers.json").is_file() and (folder / "train" / "dataset.json").is_file()


def read_identifiers(folder: Path) -> list[str]:
    """Puzzle names by id, `<blank>` first. Raises DataError."""
    path = folder / "identifiers.json"
    names = load_json(path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: not a list of puzzle names", "rebuild the folder")
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{path}: {twice!r} occurs twice", "rebuild the folder")
    return names


def read_split(folder: Path, split: str) -> SplitArrays:
    """Read DIR/`split`. Raises DataError for missing, truncated or contradictory files."""
    place = folder / split
    meta = load_json(place / "dataset.json")
    if not isinstance(meta, dict) or not all(isinstance(meta.get(k), int) for k in ("seq_len", "vocab_size")):
        raise DataError(f"{place / 'dataset.json'}: no seq_len and vocab_size", "rebuild the folder")
    arrays = SplitArrays(
        folder=place,
        meta=meta,
        inputs=_load(place, "inputs", 2),
        labels=_load(place, "labels", 2),
        puzzle_identifiers=_load(place, "puzzle_identifiers", 1),
        puzzle_indices=_load(place, "puzzle_indices", 1),
        group_indices=_load(place, "group_indices", 1),
    )
    _check(arrays)
    return arrays


def file_of(folder: Path, field: str) -> Path:
    """Return the file of an array of a split."""
    return folder / f"{SET}__{field}.npy"


def _load(folder: Path, field: str, ndim: int) -> NDArray[Any]:
    path = file_of(folder, field)
    try:
        user_files.check_regular(path)
        # mapped, since a header can claim more rows than there is memory; the map is refused where the file is shorter
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        array = mapped if ndim == 2 else np.array(mapped)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, RecursionError, TypeError) as problem:
        raise DataError(f"{path}: cannot be read: {problem}", "the file is missing or cut off; rebuild it") from None
    if array.ndim != ndim or not np.issubdtype(array.dtype, np.integer):
        raise DataError(
            f"{path}: {array.ndim} dimensions of {array.dtype}, not {ndim} of integers", "rebuild the folder"
        )
    return array


def _check(arrays: SplitArrays) -> None:
    place, rows = arrays.folder, len(arrays.inputs)
    length = arrays.meta["seq_len"]
    for field in ("inputs", "labels"):
        shape = getattr(arrays, field).shape
        if shape != (rows, length):
            raise DataError(
                f"{file_of(place, field)}: {field} are {shape}, not {(rows, length)}",
                "files of two builds are mixed: rebuild the folder",
            )
    for field, ends in (("puzzle_indices", rows), ("group_indices", len(arrays.puzzle_identifiers))):
        index = getattr(arrays, field)
        if not len(index) or index[0] != 0 or index[-1] != ends or (np.diff(index) <= 0).any():
            raise DataError(
                f"{file_of(place, field)}: {field} do not divide the {ends:,} rows below it",
                "files of two builds are mixed: rebuild the folder",
            )
    if len(arrays.puzzle_indices) != len(arrays.puzzle_identifiers) + 1:
        counts = f"{len(arrays.puzzle_indices) - 1:,} puzzles but {len(arrays.puzzle_identifiers):,} identifiers"
        raise DataError(f"{place}: {counts}", "files of two builds are mixed")
    _check_meta(arrays)
    ids = arrays.meta.get("num_puzzle_identifiers")
    if isinstance(ids, int) and len(arrays.puzzle_identifiers):
        low, high = int(arrays.puzzle_identifiers.min()), int(arrays.puzzle_identifiers.max())
        if low < 0 or high >= ids:
            raise DataError(f"{place}: puzzle id {high if low >= 0 else low} of {ids:,} ids", "rebuild the folder")


def _check_meta(arrays: SplitArrays) -> None:
    """Raise DataError where a count in dataset.json differs from the arrays; absent keys are ignored."""
    file = arrays.folder / "dataset.json"
    # total_puzzles is not compared: the maze and sudoku builders store the number of groups in it
    counted = {"total_groups": float(len(arrays.group_indices) - 1)}
    if len(arrays.puzzle_identifiers):
        counted["mean_puzzle_examples"] = len(arrays.inputs) / len(arrays.puzzle_identifiers)
    for key, found in counted.items():
        recorded = arrays.meta.get(key)
        if isinstance(recorded, int | float) and not math.isclose(recorded, found, rel_tol=1e-6):
            raise DataError(f"{file}: {key} {recorded}, but the arrays have {found:g}", "files of two builds are mixed")
    if arrays.meta.get("sets", [SET]) != [SET]:
        raise DataError(f"{file}: sets are {arrays.meta['sets']}, not ['{SET}']", "name a folder of one set")
    for key in ("pad_id", "ignore_label_id", "blank_identifier_id"):
        if arrays.meta.get(key, 0) not in (0, None):
            raise DataError(f"{file}: {key} {arrays.meta[key]}, not 0", "such folders are not read")


def check_identifiers(folder: Path, arrays: SplitArrays, names: list[str]) -> None:
    """Raise DataError unless identifiers.json has as many names as dataset.json counts, and a name for every id."""
    recorded = arrays.meta.get("num_puzzle_identifiers", len(names))
    highest = int(arrays.puzzle_identifiers.max(initial=0))
    if recorded != len(names) or highest >= len(names):
        raise DataError(
            f"{folder / 'identifiers.json'}: {len(names):,} names, but {arrays.folder.name}/dataset.json counts "
            f"{recorded:,} and the highest id is {highest:,}",
            "identifiers do not match the arrays; rebuild the folder",
        )


def read_test_puzzles(folder: Path) -> dict[str, Any]:
    """Return the evaluation tasks of an ARC folder as JSON by id, unchecked. Raises DataError."""
    found = load_json(folder / "test_puzzles.json")
    if not isinstance(found, dict):
        raise DataError(f"{folder / 'test_puzzles.json'}: not an object keyed by task id", "rebuild the folder")
    return found


def check_tokens(arrays: SplitArrays) -> None:
    """Raise DataError that names the row of a token outside the vocabulary; reads every row."""
    vocabulary = arrays.meta["vocab_size"]
    for field in ("inputs", "labels"):
        table = getattr(arrays, field)
        for first in range(0, len(table), 65_536):
            part = np.asarray(table[first : first + 65_536])
            if part.size and (part.max() >= vocabulary or part.min() < 0):
                row, position = (int(i) for i in np.argwhere((part >= vocabulary) | (part < 0))[0])
                raise DataError(
                    f"{file_of(arrays.folder, field)}: {field} row {first + row}, position {position}: token "
                    f"{part[row, position]} of a vocabulary of {vocabulary}",
                    "rebuild the folder",
                )


def read_trm_tasks(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the tasks of an ARC folder as task JSON by id: (training, evaluation).

    Pairs come from the unaugmented puzzle of each group. Evaluation tasks are those of test_puzzles.json; the folder
    does not record the test pairs of other tasks, so all their pairs are demonstrations. Raises DataError.
    """
    names = read_identifiers(folder)
    train = read_split(folder, "train")
    if train.meta["seq_len"] != CANVAS * CANVAS or train.meta["vocab_size"] != 12:
        raise DataError(
            f"{folder}: not ARC tokens (seq_len {train.meta['seq_len']}, vocab_size {train.meta['vocab_size']})",
            "mazes and sudokus: `gridloom data check FOLDER`, and in a spec kind: maze or kind: sudoku",
        )
    check_identifiers(folder, train, names)
    tests = read_test_puzzles(folder)
    training: dict[str, Any] = {}
    evaluation: dict[str, Any] = {}
    for group in range(len(train.group_indices) - 1):
        puzzle = int(train.group_indices[group])
        name = names[train.puzzle_identifiers[puzzle]]
        if SEPARATOR in name:
            raise DataError(f"{folder}: group {group} starts with the variant {name!r}", "identifiers do not match")
        demos = _decode_pairs(train, puzzle, name)
        if name in tests:
            evaluation[name] = tests[name]
            shown = tests[name].get("train") if isinstance(tests[name], dict) else None
            if shown != demos:
                raise DataError(
                    f"{folder}: task {name!r} has other demonstrations in test_puzzles.json than in its rows",
                    "identifiers do not match the arrays; rebuild the folder",
                )
        else:
            training[name] = {"train": demos, "test": []}
    missing = sorted(set(tests) - set(evaluation))
    if missing:
        raise DataError(f"{folder}: task {missing[0]!r} of test_puzzles.json has no rows", "rebuild the folder")
    _compare_answers(folder, names, evaluation)
    return training, evaluation


def _compare_answers(folder: Path, names: list[str], evaluation: dict[str, Any]) -> None:
    """Raise DataError unless the test rows equal the test pairs of the evaluation tasks."""
    shown: dict[str, Any] = {}
    if (folder / "test").is_dir():
        test = read_split(folder, "test")
        check_identifiers(folder, test, names)
        for puzzle in test.group_indices[:-1].tolist():
            name = names[test.puzzle_identifiers[puzzle]]
            shown[name] = _decode_pairs(test, puzzle, name)
    for name in sorted(set(shown) | set(evaluation)):
        expected = [{"output": [[0]], **pair} for pair in evaluation.get(name, {}).get("test", ())]
        if shown.get(name, []) != expected:
            raise DataError(
                f"{folder}: the test pairs of task {name!r} differ between test_puzzles.json and the rows in test",
                "rebuild the folder",
            )


def _decode_pairs(arrays: SplitArrays, puzzle: int, name: str) -> list[dict[str, list[list[int]]]]:
    pairs = []
    for index, row in enumerate(range(arrays.rows(puzzle).start, arrays.rows(puzzle).stop)):
        sides = {}
        for side, table in (("input", arrays.inputs), ("output", arrays.labels)):
            grid = box(np.asarray(table[row]).reshape(CANVAS, CANVAS))
            if grid is None:
                place = GridLocation(str(arrays.folder), name, arrays.folder.name, index, side)
                raise DataError(f"{place}: row {row} holds no rectangle of colours", "rebuild the folder")
            sides[side] = grid.tolist()
        pairs.append(sides)
    return pairs


def box(tokens: NDArray[np.uint8]) -> Grid | None:
    """Return the bounding box of the colours on a canvas, at any offset; None unless colours fill it."""
    rows, columns = np.nonzero(tokens >= 2)
    if not len(rows):
        return None
    part = tokens[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    if len(rows) != part.size or part.max() > 11:
        return None
    return (part - 2).astype(np.uint8)
