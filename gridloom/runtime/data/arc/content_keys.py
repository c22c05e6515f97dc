"""Keys of a task and of each of its pairs, equal for what is equal up to symmetry; the leak rules compare them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from gridloom.compiler.facts import KEY_DIGITS, TRAINED_ROLES, PairKey, PairRole, TaskKey, pack_pair
from gridloom.runtime.data.arc.forms import Form, canonical, form_of
from gridloom.runtime.data.tasks import Grid, Task

SMALL_CELLS = 9
"""Largest number of patterned cells with which two pairs, or two inputs, are equal under a recolouring by chance."""


def content_key(task: Task, held_out: bool, answers: Sequence[Grid] = ()) -> TaskKey:
    """Return the keys of a task's demonstrations and of each of its pairs.

    Args:
        held_out: whether the task's test outputs are held out.
        answers: the held-out test outputs, one per test input; empty where they are not known.
    """
    roles: list[PairRole] = ["check" if i in task.check else "demo" for i in range(len(task.demos))]
    parts: list[tuple[Grid, ...]] = [(pair.input, pair.output) for pair in task.demos]
    for pair in task.known:
        roles.append("known")
        parts.append((pair.input, pair.output))
    for i, grid in enumerate(task.tests):
        roles.append("held")
        parts.append((grid, answers[i]) if answers else (grid,))
    forms = [[form_of(part, dihedral) for part in parts] for dihedral in range(8)]
    shown = len(task.demos)
    key = hashlib.sha256(min(canonical(turned[:shown]) for turned in forms)).hexdigest()
    pairs = (_pair_key(role, parts[i], [turned[i] for turned in forms]) for i, role in enumerate(roles))
    return TaskKey(task.task_id, task.subset, held_out, key, tuple(pairs))


def _pair_key(role: PairRole, part: tuple[Grid, ...], forms: Sequence[Form]) -> PairKey:
    """Return the keys of a pair, or of an input alone, from its eight orientations."""
    cells, whole = part[0].size, len(part) == 2
    # colours are numbered through the input first, so its own form is the beginning of the pair's
    patterned = [grid.size for grid in part if not _plain(grid)]
    return PairKey(
        role,
        _digest(min(form.shape + form.cells for form in forms)) if whole else "",
        _digest(min(form.shape + form.raw for form in forms)) if whole else "",
        _digest(forms[0].shape + forms[0].raw) if whole else "",
        _digest(min(form.shape[:2] + form.cells[:cells] for form in forms)),
        _digest(forms[0].shape[:2] + forms[0].raw[:cells]),
        sum(patterned) <= SMALL_CELLS,
        cells <= SMALL_CELLS,
        _plain(part[0]),
    )


def _plain(grid: Grid) -> bool:
    """Return whether the grid has a single colour."""
    cells = grid.tobytes()
    return cells.count(cells[:1]) == len(cells)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:KEY_DIGITS]


def trained_pairs(tasks: Iterable[Task]) -> dict[str, list[str]]:
    """Return the keys of the pairs that training reads, by task id, as `pack_pair` writes them."""
    return {
        task.task_id: [pack_pair(pair) for pair in content_key(task, False).pairs if pair.role in TRAINED_ROLES]
        for task in tasks
    }
