"""Copy of a run's submission file to where the user wants it."""

from __future__ import annotations

from pathlib import Path

from gridloom.compiler.graph import RunGraph
from gridloom.errors import GridloomError
from gridloom.runtime.execution.run_outcome import RunResult
from gridloom.stores.files.disk import storage_error
from gridloom.stores.files.write_aside import replacing
from gridloom.wording import listed

FILE = "submission.json"


def check_target(target: Path, option: str = "--submission", example: str = FILE) -> None:
    """Raise GridloomError, before anything runs, for a place where no file can be written."""
    if target.is_dir() or not target.absolute().parent.is_dir():
        what = "is a folder" if target.is_dir() else "is in a folder that does not exist"
        raise GridloomError(f"{option} {target} {what}", f"name a file in a folder that exists: {example}")


def copy_submission(result: RunResult, graph: RunGraph, target: Path) -> Path:
    """Write the submission of the run's only solve stage to `target`, whole or not at all.

    Raises:
        GridloomError: the run has no solve stage, or several.
        StoreError: the file cannot be written.
    """
    made = [
        result.artifacts[node.name] for node in graph.nodes if node.kind == "solve" and node.name in result.artifacts
    ]
    if len(made) != 1:
        names = [node.name for node in graph.nodes if node.kind == "solve"]
        raise GridloomError(
            f"{len(made)} solve stages made picks: {listed(names)}" if names else "no solve stage made picks",
            "give --submission with a spec that has one; each artifact holds its own submission.json",
        )
    try:
        with replacing(target) as aside:
            aside.write_bytes((made[0].path / FILE).read_bytes())
    except OSError as error:
        raise storage_error(error, "write the submission", target) from error
    return target
