"""A task file in place of a spec: the recipe that learns and answers it, with what the file and the user say."""

from __future__ import annotations

import json
from pathlib import Path

from gridloom.errors import GridloomError
from gridloom.specs.walltime import walltime_seconds

RECIPE = "solve-task"
SUBSET = "tasks"
"""What a plain file's tasks are counted under."""


def is_task_file(spec: str) -> bool:
    """Say whether an argument names a task file rather than a spec."""
    return Path(spec).suffix == ".json"


def task_overrides(file: str, budget: str | None) -> list[str]:
    """Turn a task file and a budget into overrides of the recipe. Raises GridloomError for a budget that is no time.

    Where the file has the test outputs, they are held out and the picks scored by them. Whether it is there, and a
    task, is for the compiler to say.
    """
    source = file if Path(file).is_absolute() else f"./{Path(file)}"
    found = [f"data.task.source={source}", f"data.task.subsets=[{SUBSET}]", f"data.task.holdout=[{SUBSET}]",
             "data.task.select.ids=[]"]
    if budget is not None:
        try:
            seconds = walltime_seconds(budget)
        except ValueError as error:
            raise GridloomError(f"--budget {error}") from None
        if seconds <= 0:
            raise GridloomError(f"--budget {budget} leaves no time to learn the task", "write 60s, or 5m")
        found.append(f"vars.budget={budget}")
    return found if _has_answers(Path(file)) else [*found, "stages.score=null"]


def _has_answers(file: Path) -> bool:
    """Say whether every test has its output; a file that is no task keeps the stage that would read them."""
    try:
        return all("output" in pair for pair in json.loads(file.read_text(encoding="utf-8"))["test"])
    except (OSError, ValueError, KeyError, TypeError):
        return True
