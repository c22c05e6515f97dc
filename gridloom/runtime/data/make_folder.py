"""Mazes and sudokus of a `data` entry as a folder of arrays, for the programs that read that layout."""

from __future__ import annotations

from pathlib import Path

from gridloom.errors import DataError
from gridloom.runtime.data.check_folder import FolderReport, check_folder
from gridloom.runtime.data.entries import Entry
from gridloom.runtime.data.puzzles import build_puzzles
from gridloom.specs.puzzles import MazeData, SudokuData
from gridloom.stores.vacant import check_vacant, filling


def make_folder(entry: Entry, folder: Path) -> FolderReport:
    """Write {train,test}/all__*.npy, dataset.json and identifiers.json; what was written is read back and judged.

    Raises DataError, and then nothing is left.
    """
    if not isinstance(entry.spec, MazeData | SudokuData):
        raise DataError(
            f"{entry.name!r} is {entry.spec.kind} data; mazes and sudokus are made",
            "ARC tasks are written with `gridloom data export`; sequences are streams and have no rows to write",
        )
    check_vacant(folder)
    with filling(folder) as aside:
        build_puzzles(entry.spec, entry.base, aside)
        report = check_folder(aside)
    return report
