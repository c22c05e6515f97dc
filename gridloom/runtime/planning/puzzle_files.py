"""Spec that answers a file of puzzles with a checkpoint, for `gridloom solve FILE`."""

from __future__ import annotations

import json
from pathlib import Path

from gridloom import user_files
from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.description import shipped_names
from gridloom.runtime.planning.finished_early import TRAININGS
from gridloom.runtime.planning.local import SpecText
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.workspace import Workspace
from gridloom.wording import did_you_mean, listed

PUZZLE_FILES = (".txt", ".csv", ".sdk", ".sudoku", ".maze")
STAGE = "answer"
MOST = 10_000_000


def is_puzzle_file(spec: str) -> bool:
    """Return whether an argument names a file of puzzles rather than a spec."""
    return Path(spec).suffix in PUZZLE_FILES


def puzzle_spec(file: str, given: str | None, workspace: Workspace) -> SpecText:
    """Return the spec that answers every puzzle of a file.

    Args:
        given: folder of a checkpoint, or name of a finished training of the workspace.

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
            "given": {"kind": "checkpoint", "path": str(find_checkpoint(given, workspace))},
            STAGE: {"kind": "evaluate", "with": "given", "data": "puzzles"},
        },
    }
    return SpecText(json.dumps(sections, indent=1), "solve-puzzles.yaml")


def find_checkpoint(given: str, workspace: Workspace) -> Path:
    """Return the folder of a checkpoint: a path, or the newest one that a stage of this name made."""
    try:
        folder = user_files.named_path(given)
    except OSError as error:
        raise GridloomError(f"no checkpoint can be at {given!r:.200}: {error.strerror}", "name a folder") from None
    if user_files.is_file(folder / "bundle.json"):
        return folder.absolute()
    made = [one for one in ArtifactStore(workspace).all() if one.manifest["kind"] in TRAININGS]
    named = [one for one in made if one.manifest["producer"]["stage"] == given]
    if named:
        return max(named, key=lambda one: float(one.manifest["created_at"])).path.absolute()
    if given in shipped_names():
        raise GridloomError(
            f"{given!r} is no folder of a checkpoint, and no finished training", f"did you mean 'shipped:{given}'?"
        )
    known = sorted({str(one.manifest["producer"]["stage"]) for one in made})
    otherwise = f"trainings of this workspace: {listed(known, 6)}" if known else "train something first"
    raise GridloomError(
        f"{given!r} is no folder of a checkpoint, and no finished training", did_you_mean(given, known, otherwise)
    )
