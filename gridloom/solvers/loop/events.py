"""What a solve stage shows while it runs. A terminal renders these; their text form is one plain line."""

from __future__ import annotations

from dataclasses import dataclass

from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Pick, Plan, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class TaskShown:
    """A task whose first attempt begins."""

    task: Task

    def __str__(self) -> str:
        return f"{self.task.task_id}  {len(self.task.demos)} demonstrations, {len(self.task.tests)} test inputs"


@dataclass(frozen=True, slots=True, eq=False)
class AttemptShown:
    """One recorded attempt."""

    task: Task
    attempt_id: str
    plan: Plan
    grids: list[GridRows]
    """The proposed grid of each test input; [] where there is none."""
    verdict: Verdict
    text: str
    """What the LLaMA wrote; empty without one."""
    seconds: float

    def __str__(self) -> str:
        judged = "accepted" if self.verdict.accepted else "rejected"
        why = f": {self.verdict.feedback}" if self.verdict.feedback else ""
        return f"{self.attempt_id}  {judged} {self.verdict.score:.2f}  {self.seconds:.1f} s{why}"


@dataclass(frozen=True, slots=True, eq=False)
class PicksShown:
    """The final picks of a task."""

    task: Task
    picks: tuple[Pick, ...]
    accepted: bool
    num_attempts: int

    def __str__(self) -> str:
        judged = "accepted" if self.accepted else "open"
        plural = "" if self.num_attempts == 1 else "s"
        return f"{self.task.task_id}  {judged} after {self.num_attempts} attempt{plural}, {len(self.picks)} picks"


Event = TaskShown | AttemptShown | PicksShown
