"""Tasks up to symmetry: rotation, reflection and recolouring keep a task's key. Finds leaks. Imports only numpy."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np

from gridloom.compiler.check.pairs import ReadPairs
from gridloom.compiler.facts import PairKey, short_key
from gridloom.runtime.data.arc.content_keys import content_key
from gridloom.runtime.data.arc.forms import Form, canonical, form_of
from gridloom.runtime.data.tasks import Grid, Task

Grade = Literal["same", "demonstrations", "pair", "id"]
"""`same`: demonstrations and test inputs agree; `demonstrations`: only these; `pair`: a test pair of one is a pair of
the other; `id`: one id, different content."""
GRADES: tuple[Grade, ...] = get_args(Grade)


@dataclass(frozen=True, slots=True)
class Leak:
    """Task or pair that occurs twice, in two sources or in one."""

    left: str
    right: str
    left_subset: str
    right_subset: str
    grade: Grade
    exact: bool
    """True if they are equal cell by cell; otherwise they are equal under `dihedral` and `colours`."""
    dihedral: int = 0
    """Dihedral id that maps the left one to the right one, applied after the colours."""
    colours: tuple[tuple[int, int], ...] = ()
    """(colour, image) for each colour that the left one uses."""
    left_pair: str = ""
    """`demo 2` or `test 1` where the grade is `pair`."""
    right_pair: str = ""


def task_key(task: Task, demonstrations_only: bool = False) -> str:
    """Return a sha256 that is invariant under orientation, colours and order of demonstrations.

    Different tasks share a key only if colour refinement cannot distinguish them; `find_leaks` compares exactly.
    """
    form = min(canonical(_forms(task, dihedral, demonstrations_only)) for dihedral in range(8))
    return hashlib.sha256(form).hexdigest()


def trained_answers(tasks: Iterable[Task]) -> dict[str, str]:
    """Return the ids of the tasks whose test answers are training pairs, by `short_key` of the task."""
    return {short_key(task_key(task, demonstrations_only=True)): task.task_id for task in tasks if task.known}


def find_leaks(left: Sequence[Task], right: Sequence[Task] | None = None) -> list[Leak]:
    """Return tasks of `left` that are also in `right`, or twice in `left` if `right` is None, each with its strongest
    grade."""
    leaks: dict[tuple[int, int], Leak] = {}
    for a, b in _candidate_pairs(left, right):
        grade: Grade = "same"
        found = find_symmetry(a, b)
        if found is None:
            grade = "demonstrations"
            found = find_symmetry(a, b, demonstrations_only=True)
        if found is not None:
            leaks[id(a), id(b)] = _leak(a, b, grade, found)
        elif a.task_id == b.task_id:
            leaks[id(a), id(b)] = Leak(a.task_id, b.task_id, a.subset, b.subset, "id", False)
    for (a, b), leak in _pair_leaks(left, right):
        known = leaks.get((id(a), id(b)))
        if known is None or GRADES.index(leak.grade) < GRADES.index(known.grade):
            leaks[id(a), id(b)] = leak
    return sorted(leaks.values(), key=lambda leak: (leak.left, leak.right))


def _leak(a: Task, b: Task, grade: Grade, found: tuple[int, dict[int, int]]) -> Leak:
    dihedral, colours = found
    exact = dihedral == 0 and all(x == y for x, y in colours.items())
    mapped = tuple(sorted(colours.items()))
    return Leak(a.task_id, b.task_id, a.subset, b.subset, grade, exact, dihedral, mapped)


def _pair_leaks(left: Sequence[Task], right: Sequence[Task] | None) -> Iterator[tuple[tuple[Task, Task], Leak]]:
    """Yield two tasks and their leak for every test pair, with its answer, of one that the other has too."""
    ours = {_place(task): (task, content_key(task, bool(task.tests))) for task in left}
    theirs = ours if right is None else {_place(t): (t, content_key(t, bool(t.tests))) for t in right}
    order = {place: number for number, place in enumerate(ours)}
    roles = ("demo", "check", "known", "held")
    for askers, others in ((ours, theirs), (theirs, ours))[: 1 if right is None else 2]:
        index = ReadPairs.of((key for _, key in others.values()), roles)
        for task, key in askers.values():
            asked = replace(key, pairs=tuple(_as_held(pair) for pair in key.pairs))
            for test in range(len(task.known) + len(task.tests)):
                for seen in index.matches(asked, test):
                    other = others[seen.trained.subset, seen.trained.task_id][0]
                    if seen.finding != "answer" or other is task:
                        continue
                    sides = [(task, len(task.demos) + test), (other, seen.trained.pairs.index(seen.pair))]
                    if askers is not ours or (right is None and order[_place(other)] < order[_place(task)]):
                        sides.reverse()
                    yield (sides[0][0], sides[1][0]), _pair_leak(sides[0], sides[1])


def _place(task: Task) -> tuple[str, str]:
    return task.subset, task.task_id


def _as_held(pair: PairKey) -> PairKey:
    return replace(pair, role="held") if pair.role == "known" else pair


def _pair_leak(left: tuple[Task, int], right: tuple[Task, int]) -> Leak:
    """Return the leak of two pairs with the symmetry that maps left to right."""
    (ours, a), (theirs, b) = ((task, _parts(task)[place]) for task, place in (left, right))
    goal = form_of(b, 0)
    turned = ((dihedral, form_of(a, dihedral)) for dihedral in range(8))
    found = next(
        (dihedral, dict(zip(form.colours, goal.colours, strict=True)))
        for dihedral, form in turned
        if (form.shape, form.cells) == (goal.shape, goal.cells)
    )
    return replace(_leak(ours, theirs, "pair", found), left_pair=_label(*left), right_pair=_label(*right))


def _parts(task: Task) -> list[tuple[Grid, ...]]:
    """Return the grids of each pair of a task, in the order of `TaskKey.pairs`."""
    return [(pair.input, pair.output) for pair in (*task.demos, *task.known)] + [(grid,) for grid in task.tests]


def _label(task: Task, place: int) -> str:
    shown = len(task.demos)
    return f"demo {place + 1}" if place < shown else f"test {place - shown + 1}"


def find_symmetry(a: Task, b: Task, demonstrations_only: bool = False) -> tuple[int, dict[int, int]] | None:
    """Return a dihedral id and a colour map that map `a` to `b`, preferring the identity; None if there are none."""
    goal = _forms(b, 0, demonstrations_only)
    for dihedral in range(8):
        forms = _forms(a, dihedral, demonstrations_only)
        if sorted((f.shape, f.cells) for f in forms) != sorted((f.shape, f.cells) for f in goal):
            continue
        colours = _match(sorted(forms, key=lambda f: (f.shape, f.cells)), goal, {})
        if colours is not None:
            return dihedral, colours
    return None


def _candidate_pairs(left: Sequence[Task], right: Sequence[Task] | None) -> Iterable[tuple[Task, Task]]:
    """Yield pairs of tasks whose demonstrations agree in sizes and colour counts, or that share an id."""
    by_key: dict[bytes, list[Task]] = defaultdict(list)
    for task in left:
        by_key[_counts(task)].append(task)
    if right is None:
        yield from (pair for group in by_key.values() for pair in combinations(group, 2))
        return
    by_id = {task.task_id: task for task in left}
    for other in right:
        found = by_key.get(_counts(other), [])
        yield from ((task, other) for task in found)
        namesake = by_id.get(other.task_id)
        if namesake is not None and namesake not in found:
            yield namesake, other


def _counts(task: Task) -> bytes:
    """Return sizes and colour counts of the demonstrations, sorted: a cheap invariant that equal tasks share."""
    parts = []
    for pair in task.demos:
        counts = np.bincount(pair.input.reshape(-1), minlength=10) * 1024
        counts += np.bincount(pair.output.reshape(-1), minlength=10)
        counts.sort()
        parts.append(bytes(sorted(pair.input.shape)) + bytes(sorted(pair.output.shape)) + counts.tobytes())
    return b"".join(sorted(parts))


def _forms(task: Task, dihedral: int, demonstrations_only: bool) -> list[Form]:
    parts: list[tuple[Grid, ...]] = [(pair.input, pair.output) for pair in task.demos]
    if not demonstrations_only:
        parts += [(grid,) for grid in (*task.tests, *(pair.input for pair in task.known))]
    return [form_of(part, dihedral) for part in parts]


def _match(forms: list[Form], goal: list[Form], colours: dict[int, int]) -> dict[int, int] | None:
    """Extend a colour map so that `forms` equal `goal` in some order; identical candidates are tried once."""
    if not forms:
        return colours
    first = forms[0]
    tried = set()
    for index, candidate in enumerate(goal):
        if (candidate.shape, candidate.cells) != (first.shape, first.cells) or candidate.colours in tried:
            continue
        tried.add(candidate.colours)
        extended = dict(colours)
        taken = set(colours.values())
        for ours, theirs in zip(first.colours, candidate.colours, strict=True):
            if extended.get(ours, theirs) != theirs or (ours not in extended and theirs in taken):
                break
            extended[ours] = theirs
            taken.add(theirs)
        else:
            found = _match(forms[1:], goal[:index] + goal[index + 1 :], extended)
            if found is not None:
                return found
    return None
