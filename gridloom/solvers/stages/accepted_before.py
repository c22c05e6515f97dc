"""Tasks of a solve stage that an earlier solve stage accepted: their picks and attempts stand, without new attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gridloom.errors import StageError
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.stage import StageContext
from gridloom.solvers.loop.events import PicksShown, TaskShown
from gridloom.solvers.loop.recording import AttemptScope, pick_records
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.solvers.types import Pick
from gridloom.stores.artifacts import Artifact


def accepted_before(attempts: Artifact, dataset: Dataset, tasks: Sequence[Task]) -> dict[str, tuple[Pick, ...]]:
    """Return the picks of the tasks that the verifier of an earlier solve stage accepted, by task id.

    Raises:
        StageError: the artifact is damaged, or of other tasks than those of the dataset.
    """
    meta = attempts.read_json(outputs.META)
    if meta.get("data_digest") != dataset.digest:
        raise StageError(
            f"unless_accepted: the attempts of {attempts.path} are of other data than this stage's",
            "name a solve stage over the same entry of data",
        )
    made = outputs.read_picks(attempts.path)
    try:
        return {
            task.task_id: tuple(_picks(made[task.task_id]))
            for task in tasks
            if task.task_id in made and made[task.task_id]["accepted"]
        }
    except (KeyError, TypeError, ValueError) as problem:
        raise StageError(
            f"{attempts.path / outputs.PICKS} is damaged ({problem!r})", "remove the artifact and run again"
        ) from None


def _picks(made: Mapping[str, Any]) -> list[Pick]:
    return [
        Pick(
            test_index=index,
            rank=rank,
            grid=test["grids"][rank],
            weight=test["weights"][rank],
            attempt=test["attempts"][rank],
        )
        for index, test in enumerate(made["tests"])
        for rank in range(len(test["grids"]))
    ]


def take_over(
    tasks: Sequence[Task],
    picks: Mapping[str, tuple[Pick, ...]],
    lines: Sequence[Mapping[str, Any]],
    scope: AttemptScope,
    context: StageContext,
) -> None:
    """Record the picks of an earlier stage as those of this one, and show them.

    Args:
        tasks: accepted tasks that this stage has not finished.
        picks: of the accepted tasks, by id.
        lines: attempts.jsonl of the earlier stage.
        scope: run and stage that take the picks over, for any task.
    """
    for task in tasks:
        number = sum(line["task_id"] == task.task_id for line in lines)
        own = replace(scope, task_id=task.task_id)
        context.ledger.append(*pick_records(own, picks[task.task_id], accepted=True, num_attempts=number))
        context.progress.show(TaskShown(task))
        context.progress.show(PicksShown(task, picks[task.task_id], accepted=True, num_attempts=number))
