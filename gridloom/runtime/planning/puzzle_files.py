"""Spec that answers a file of puzzles with a checkpoint, for `gridloom solve FILE`."""

from __future__ import annotations

import json
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.find import find_checkpoint
from gridloom.runtime.planning.local import SpecText
from gridloom.stores.workspace import Workspace

PUZZLE_FILES = (".txt", ".csv", ".sdk", ".sudoku", ".maze")
STAGE = "answer"
MOST = 10_000_000


def is_puzzle_file(spec: str) -> bool:
    """Return whether an argument names a file of puzzles rather than a spec."""
    return Path(spec).suffix in PUZZLE_FILES


def puzzle_spec(file: str, given: str | None, workspace: Workspace, run: str | None = None) -> SpecText:
    """Return the spec that answers every puzzle of a file.

    Args:
        given: folder of a checkpoint, `shipped:NAME`, or name of a finished training of the workspace.
        run: run of the training; by default the newest.

    Raises:
        DataError: the file is missing or holds no text.
        GridloomError: no checkpoint is given, or there is none of this name.
    """
    from gridloom.runtime.data.puzzles.puzzle_file import kind_of_file

    path = Path(file).absolute()
    kind = kind_of_file(path)
    if given is None:
        raise GridloomError(
            f"{file} holds puzzles, and no checkpoint is named that answers them",
            "name a training of this workspace or a checkpoint's folder: --with learn",
        )
    sections = {
        "gridloom": 1,
        "name": "solve-puzzles",
        "data": {"puzzles": {"kind": kind, "source": str(path), "test": MOST}},
        "stages": {
            "given": {"kind": "checkpoint", "path": str(find_checkpoint(given, workspace, run))},
            STAGE: {"kind": "evaluate", "with": "given", "data": "puzzles"},
        },
    }
    return SpecText(json.dumps(sections, indent=1), "solve-puzzles.yaml")
