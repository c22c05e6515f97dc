"""Checkpoints as a user names them: a folder, `shipped:NAME`, or a stage that trained one. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from gridloom import user_files
from gridloom.errors import GridloomError
from gridloom.runtime.checkpoints.description import DESCRIPTION, checkpoint_folder, read_description, shipped_names
from gridloom.specs.stages import SHIPPED
from gridloom.stores.keeping.of_stage import UnknownStage, artifact_of_stage
from gridloom.stores.workspace import Workspace
from gridloom.wording import printable

TRAININGS = ("train", "joint_train")
"""Kinds of stages that make a checkpoint."""


def find_checkpoint(given: str, workspace: Workspace, run: str | None = None, notes: list[str] | None = None) -> Path:
    """Return the folder of a checkpoint.

    Args:
        given: a folder, `shipped:NAME`, or the name of a stage: its checkpoint in the run begun last that has it.
        run: run of a stage, by its id or a part of it.
        notes: list that a note is added to where a later run has the stage, and it was not done there.

    Raises:
        ModelError: no shipped checkpoint has this name, the folder holds none, or the text can be no path.
        GridloomError: neither a folder nor a training of this name is there, or it is not done.
    """
    folder = checkpoint_folder(given, ".")
    if given.startswith(SHIPPED) or user_files.is_file(folder / DESCRIPTION):
        if run is not None:
            raise GridloomError(f"--run chooses among the runs of a stage, and {given} is a folder", "leave --run out")
        return folder.absolute()
    try:
        found = artifact_of_stage(given, workspace, run, TRAININGS)
        if found.later and notes is not None:
            made = f"run {found.run_id}" if found.run_id else "an earlier run"
            notes.append(f"stage '{given}' is that of {made}: it is not done in the later run {found.later}")
        return found.artifact.path.absolute()
    except UnknownStage as error:
        if run is not None:
            raise
        if user_files.is_folder(folder):
            read_description(folder)  # says what the folder lacks
        remedy = f"did you mean '{SHIPPED}{given}'?" if given in shipped_names() else error.remedy
        raise GridloomError(
            f"'{printable(given)}' is no folder of a checkpoint, and no finished training", remedy
        ) from None
