"""Validation of a builder's array folder: every row, every identifier, every answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from gridloom.errors import DataError
from gridloom.runtime.data.files.arrays import CANVAS, is_array_folder
from gridloom.runtime.data.files.json_files import load_json, read_bytes
from gridloom.runtime.data.puzzles.tables import MAZE_VOCAB, SPLITS, vocab_of
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.stores.files.vacant import check_vacant, filling

# the kernels of puzzles load numba, which takes seconds: each function imports them once its arguments are right
if TYPE_CHECKING:
    from gridloom.runtime.interop.arrays.trm_export import SplitCounts
    from gridloom.runtime.show.entries import DataEntry

Kind = Literal["arc", "maze", "sudoku"]
EVERY = 10_000_000
"""Upper bound on the number of puzzles of a folder."""


@dataclass(frozen=True, slots=True)
class FolderReport:
    """Content of a folder that passed every check."""

    kind: Kind
    side: int
    """Side of the canvas, the maze or the sudoku, in cells."""
    splits: tuple[SplitCounts, ...]
    num_identifiers: int
    """Number of puzzle ids, the blank one included."""
    num_overlapping: int | None = None
    """Test puzzles equal to a training puzzle under a symmetry; None for ARC tasks, see `gridloom data leaks`."""


def check_folder(folder: Path) -> FolderReport:
    """Read a whole array folder or its CSV files. Raises DataError that names file, row and fault."""
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}", "name a folder of {train,test}/all__*.npy, or of CSV files")
    kind = folder_kind(folder)

    from gridloom.runtime.data.puzzles.puzzle_set import num_overlapping, read_source
    from gridloom.runtime.interop.arrays.trm_export import SplitCounts, count_splits
    from gridloom.runtime.interop.arrays.trm_import import import_trm

    if kind == "arc":
        plan = import_trm(folder)
        return FolderReport(kind, CANVAS, count_splits(plan), len(plan.identifiers()))
    spec = MazeData(train=EVERY, test=EVERY) if kind == "maze" else SudokuData(train=EVERY, test=EVERY)
    tables = read_source(spec, folder, variants=True)
    side = round(next(iter(tables.values()))[0].shape[1] ** 0.5)
    arrays = is_array_folder(folder)
    splits = tuple(
        SplitCounts(split, _num_groups(folder / split) if arrays else len(rows), len(rows), len(rows))
        for split, (rows, _) in tables.items()
    )
    return FolderReport(kind, side, splits, 1, num_overlapping(kind, tables))


def _num_groups(split: Path) -> int:
    return len(np.load(split / "all__group_indices.npy")) - 1


def folder_kind(folder: Path) -> Kind:
    """Return the kind of data by row length and vocabulary, or by the characters of CSV files. Raises DataError."""
    if not is_array_folder(folder):
        return _csv_kind(folder)
    path = folder / "train" / "dataset.json"
    meta = load_json(path)
    length, vocab = (meta.get("seq_len"), meta.get("vocab_size")) if isinstance(meta, dict) else (None, None)
    if (length, vocab) == (CANVAS * CANVAS, 12):
        return "arc"
    if any((length, vocab) == (size * size, vocab_of("sudoku", size)) for size in (4, 6, 9)):
        return "sudoku"
    if vocab == MAZE_VOCAB:
        return "maze"
    raise DataError(
        f"{path}: {length} tokens of a vocabulary of {vocab} are no ARC tasks, mazes or sudokus",
        "name a folder of one of these",
    )


def _csv_kind(folder: Path) -> Kind:
    for split in SPLITS:
        path = folder / f"{split}.csv"
        if path.is_file():
            first = read_bytes(path).splitlines()[1:2]
            return "maze" if first and b"S" in first[0].partition(b",")[2] else "sudoku"
    if (folder / "train" / "manifest.json").is_file() or (folder / "manifest.json").is_file():
        raise DataError(
            f"{folder} holds encoded rows of a stream or prebuilt dataset, no arrays",
            f"`gridloom data consolidate {folder} --dry-run` checks these",
        )
    raise DataError(
        f"{folder}: no arrays and no CSV files",
        "it needs identifiers.json and train/dataset.json, or train.csv",
    )


def make_folder(entry: DataEntry, folder: Path) -> FolderReport:
    """Write {train,test}/all__*.npy, dataset.json and identifiers.json, then read the folder back and check it.

    Raises DataError, and then leaves no files.
    """
    if not isinstance(entry.spec, MazeData | SudokuData):
        raise DataError(
            f"{entry.name!r} is {entry.spec.kind} data; mazes and sudokus are made",
            "ARC tasks are written with `gridloom data export`; sequences are streams and have no rows to write",
        )
    check_vacant(folder)

    from gridloom.runtime.data.puzzles.puzzle_set import build_puzzles

    with filling(folder) as aside:
        build_puzzles(entry.spec, entry.base, aside)
        report = check_folder(aside)
    return report
