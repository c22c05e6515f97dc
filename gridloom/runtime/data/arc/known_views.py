"""Views of a task for a network: the views that training drew, or newly drawn ones for a task it was not trained on."""

from __future__ import annotations

from itertools import takewhile

from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.views import IDENTITY, View, parse_name, task_views
from gridloom.runtime.data.tasks import SEPARATOR, Task
from gridloom.specs.data import UNSEEN_VIEWS, Augment


def known_names(puzzle_ids: PuzzleIds, task: Task) -> tuple[str, ...]:
    """Return the names of the views that training drew for a task, in training's order, without the identity."""
    first = puzzle_ids.index.get(IDENTITY.name(task.task_id))
    if first is None:
        drawn = task_views(task, 0, UNSEEN_VIEWS, Augment(copies=UNSEEN_VIEWS))[1:]
        return tuple(view.name(task.task_id) for view in drawn)
    # the views of a task have consecutive ids, identity first
    return tuple(takewhile(lambda name: name.startswith(task.task_id + SEPARATOR), puzzle_ids.names[first + 1 :]))


def known_views(puzzle_ids: PuzzleIds, task: Task) -> tuple[View, ...]:
    """Return the views that training drew for a task, in training's order, without the identity."""
    return tuple(parse_name(name)[1] for name in known_names(puzzle_ids, task))
