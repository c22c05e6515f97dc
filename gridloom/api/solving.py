"""One task, solved from a script: learnt from its demonstrations, answered, and drawn."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gridloom.api.attempts import Attempt
from gridloom.api.compiling import seconds
from gridloom.api.grids import Grid, Task, panels_svg
from gridloom.api.markup import Markup, document, element, table
from gridloom.api.running import RunResult, execute
from gridloom.api.workspaces import Workspace
from gridloom.compiler.text.write import override_text
from gridloom.errors import GridloomError
from gridloom.plain_names import check_plain, file_named
from gridloom.runtime.planning.local import RECIPE, task_overrides
from gridloom.solvers.stages.attempts_artifact import read_picks
from gridloom.stores.artifacts import ArtifactStore
from gridloom.stores.files.disk import storage
from gridloom.stores.files.write_aside import replacing
from gridloom.stores.workspace import Workspace as Folder


@dataclass(frozen=True, slots=True)
class SolveResult:
    """Result of solving a task."""

    task: Task
    """The task, with its answers where they are known."""
    picks: tuple[tuple[Grid, ...], ...]
    """Per test input up to two different grids, the likelier first."""
    accepted: bool
    """Whether the verifiers accepted an attempt, without knowing the answer."""
    attempts: tuple[Attempt, ...]
    """Attempts in the order in which they were made."""
    run: RunResult
    """The run, with every stage's artifact."""

    @property
    def grids(self) -> tuple[Grid | None, ...]:
        """Likeliest grid of each test input; None where none was proposed."""
        return tuple(picks[0] if picks else None for picks in self.picks)

    @property
    def solved(self) -> bool | None:
        """Whether each answer is among its two picks; None where the task has no answers."""
        if not self.task.answers:
            return None
        return all(answer in picks for answer, picks in zip(self.task.answers, self.picks, strict=True))

    def _repr_html_(self) -> str:
        """Draw the task, the picks and a line for each attempt, for notebooks."""
        state = {True: "solved", False: "not solved", None: "no answer to compare with"}[self.solved]
        judged = "accepted" if self.accepted else "not accepted"
        picks = [[(f"test {i} pick {k}", grid) for k, grid in enumerate(two, 1)] for i, two in enumerate(self.picks, 1)]
        rows = (
            (one.name, one.verdict, "-" if one.score is None else f"{one.score:.2f}", one.feedback)
            for one in self.attempts
        )
        return document(
            element("p", f"{judged} after {len(self.attempts)} attempts, {state}"),
            Markup(self.task._repr_svg_()),
            Markup(panels_svg("picks", *picks)),
            table(("attempt", "verdict", "score", "feedback"), rows),
        )


def solve(
    task: Task | Mapping[str, Any] | str | os.PathLike[str],
    *,
    recipe: str = RECIPE,
    budget: str | float | None = None,
    set: Mapping[str, Any] | None = None,
    home: str | os.PathLike[str] | None = None,
    device: str | None = None,
    walltime: str | float | None = None,
    progress: bool = False,
    wait: bool = False,
    finished_early: Sequence[str] = (),
) -> SolveResult:
    """Solve one ARC task: the shipped TRM learns it from its demonstrations, then the loop answers its test inputs.

    Test outputs in the task are held out: neither training nor loop sees them, and the picks are scored by them.

    Args:
        task: a Task, a dict in the form of ARC's files, or the path of such a file.
        recipe: the spec that learns and solves; its dataset must be called `task`, its solve stage `solve`.
        budget: time to learn the task, as `60s` or in seconds; by default the recipe's.
        set: values by path, such as `{"vars.attempts": 8}`.
        home: the workspace's folder; by default $GRIDLOOM_HOME, else `.gridloom`. A task that is in no file is kept
            there, in `tasks`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; overrides the recipe.
        walltime: save and stop after this long: `90m`, or seconds.
        progress: whether to show bars and events on the terminal.
        wait: wait for stages that another process runs, and use what it makes; else they fail.
        finished_early: trainings whose checkpoints are those that `gridloom stage finish` published.

    Raises:
        DataError: no task; the message names pair, row and column.
        SpecError: the recipe does not compile with these settings.
        StageError, StageInterrupted, StoreError: as `run`.
    """
    folder = Folder.find(None if home is None else Path(home))
    if isinstance(task, str | os.PathLike):
        found, file = Task.from_file(os.fspath(task)), Path(task).absolute()
    else:
        found = task if isinstance(task, Task) else Task.from_dict(task)
        file = _kept(found, folder)
    given = budget if budget is None or isinstance(budget, str) else f"{budget:g}s"
    changes = [override_text(path, value) for path, value in (set or {}).items()]
    overrides = (*task_overrides(str(file), given), *changes)
    run = execute(
        recipe, overrides, folder, device, seconds("walltime", walltime), True, progress, wait, finished_early
    )
    solves = [stage for stage in run.stages if stage.kind == "solve"]
    before = [stage for stage in solves if stage.name != "solve"]
    if len(solves) > 1:  # one before the training decides whether there is anything to learn
        solves = [stage for stage in solves if stage.name == "solve"]
    if len(solves) != 1 or solves[0].path is None or solves[0].recorded_as is None:
        raise GridloomError(f"{recipe} has {len(solves)} stages of kind solve", "solve a task by a recipe with one")
    store = ArtifactStore(folder)
    if (artifact := store.find(solves[0].key)) is not None:
        store.verify(artifact)
    made = read_picks(solves[0].path)[found.task_id]
    recorded: list[Attempt] = []
    for one in (*solves, *before):  # a task that was accepted before the training has its attempts there alone
        if not recorded and one.recorded_as is not None:
            run_id, stage = one.recorded_as
            recorded = [*Workspace(folder.root).attempts(run_id, found.task_id, stage=stage)]
    return SolveResult(
        task=found,
        picks=tuple(tuple(map(Grid, test["grids"])) for test in made["tests"]),
        accepted=made["accepted"],
        attempts=tuple(attempt for attempt in recorded if attempt.parent is None),
        run=run,
    )


def _kept(task: Task, folder: Folder) -> Path:
    """Write a task into the workspace, under a name made of its content. Raises DataError, StoreError."""
    text = json.dumps(task.to_dict())
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    check_plain(task.task_id, "task id", "task")
    file = file_named(folder.ensure(folder.root / "tasks" / digest), task.task_id, ".json")
    with storage("keep a task", file.parent), replacing(file) as aside:
        aside.write_text(text, encoding="utf-8")
    return file
