"""Progress events of a solve stage. A terminal renders the events; `str` of an event is one plain line."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Pick
from gridloom.stores.attempt import Attempt


@dataclass(frozen=True, slots=True, eq=False)
class TaskShown:
    """Event: the first attempt at a task begins."""

    task: Task

    def __str__(self) -> str:
        return f"{self.task.task_id}  {len(self.task.demos)} demonstrations, {len(self.task.tests)} test inputs"


@dataclass(frozen=True, slots=True, eq=False)
class AttemptShown:
    """Event: an attempt was recorded."""

    task: Task
    attempt: Attempt

    def __str__(self) -> str:
        row = self.attempt.row
        why = f": {row.feedback}" if row.feedback else ""
        return f"{row.attempt_id}  {row.stage}  {row.verdict} {row.score:.2f}  {self.attempt.seconds:.1f} s{why}"


@dataclass(frozen=True, slots=True, eq=False)
class PicksShown:
    """Event: the final grids of a task were chosen."""

    task: Task
    picks: tuple[Pick, ...]
    accepted: bool
    num_attempts: int

    def __str__(self) -> str:
        judged = "accepted" if self.accepted else "open"
        plural = "" if self.num_attempts == 1 else "s"
        return f"{self.task.task_id}  {judged} after {self.num_attempts} attempt{plural}, {len(self.picks)} picks"


Event = TaskShown | AttemptShown | PicksShown
