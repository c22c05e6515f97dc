"""Answers artifact: held-out test outputs, by task. Imported by the writer and by score, calibrate and count_votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gridloom.errors import DataError
from gridloom.runtime.data.files.formats import FORMAT_VERSION, check_format, write_json
from gridloom.runtime.data.files.grids import GridLocation, read_grid
from gridloom.runtime.data.files.json_files import load_json
from gridloom.runtime.data.tasks import Grid, answers_digest

_ANSWERS = "answers.json"


def save_answers(folder: Path, answers: Mapping[str, Sequence[Grid]]) -> None:
    """Write the answers; equal answers give equal bytes."""
    content = {
        "format_version": FORMAT_VERSION,
        "digest": answers_digest(answers),
        "answers": {task_id: list(grids) for task_id, grids in answers.items()},
    }
    write_json(folder / _ANSWERS, content)


def load_answers(path: Path) -> dict[str, tuple[Grid, ...]]:
    """Return held-out outputs by task id, one per test input in order. Raises DataError when the file is damaged."""
    file = path / _ANSWERS
    content = load_json(file)
    check_format(file, content)
    entries = content.get("answers")
    if not isinstance(entries, dict) or not all(isinstance(grids, list) for grids in entries.values()):
        raise DataError(f"{file}: not an answers artifact", "remove the artifact and run again")
    answers = {
        task_id: tuple(
            read_grid(grid, GridLocation(str(file), task_id, "test", i, "output")) for i, grid in enumerate(grids)
        )
        for task_id, grids in entries.items()
    }
    if answers_digest(answers) != content.get("digest"):
        raise DataError(f"{file}: content does not match its digest", "remove the artifact and run again")
    return answers
