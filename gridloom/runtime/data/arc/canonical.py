"""Tasks up to symmetry: rotation, reflection and recolouring keep a task's key. Finds leaks. Imports only numpy."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np

from gridloom.compiler.facts import short_key
from gridloom.runtime.data.tasks import Grid, Task, apply_dihedral

Grade = Literal["same", "demonstrations", "id"]
"""`same`: demonstrations and test inputs agree; `demonstrations`: only these; `id`: one id, different content."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Task that occurs twice, in two sources or in one."""

    left: str
    right: str
    left_subset: str
    right_subset: str
    grade: Grade
    exact: bool
    """True if the tasks are equal cell by cell; otherwise they are equal under `dihedral` and `colours`."""
    dihedral: int = 0
    """Dihedral id that maps the left task to the right one, applied after the colours."""
    colours: tuple[tuple[int, int], ...] = ()
    """(colour, image) for each colour that the left task uses."""


@dataclass(frozen=True, slots=True)
class _Form:
    """Part of a task under a dihedral id, colours replaced by their rank of first occurrence within the part."""

    shape: bytes
    cells: bytes
    colours: bytes
    """Colours by rank: the colour that each number in `cells` replaces."""


def task_key(task: Task, demonstrations_only: bool = False) -> str:
    """Return a sha256 that is invariant under orientation, colours and order of demonstrations.

    Different tasks share a key only if colour refinement cannot distinguish them; `find_leaks` compares exactly.
    """
    form = min(_canonical(_forms(task, dihedral, demonstrations_only)) for dihedral in range(8))
    return hashlib.sha256(form).hexdigest()


def trained_answers(tasks: Iterable[Task]) -> dict[str, str]:
    """Return the ids of the tasks whose test answers are training pairs, by `short_key` of the task."""
    return {short_key(task_key(task, demonstrations_only=True)): task.task_id for task in tasks if task.known}


def find_leaks(left: Sequence[Task], right: Sequence[Task] | None = None) -> list[Leak]:
    """Return tasks of `left` that are also in `right`, or twice in `left` if `right` is None, each with its strongest
    grade."""
    leaks = []
    for a, b in _candidate_pairs(left, right):
        grade: Grade = "same"
        found = find_symmetry(a, b)
        if found is None:
            grade = "demonstrations"
            found = find_symmetry(a, b, demonstrations_only=True)
        if found is not None:
            dihedral, colours = found
            exact = dihedral == 0 and all(x == y for x, y in colours.items())
            mapped = tuple(sorted(colours.items()))
            leaks.append(Leak(a.task_id, b.task_id, a.subset, b.subset, grade, exact, dihedral, mapped))
        elif a.task_id == b.task_id:
            leaks.append(Leak(a.task_id, b.task_id, a.subset, b.subset, "id", False))
    return sorted(leaks, key=lambda leak: (leak.left, leak.right))


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


def _forms(task: Task, dihedral: int, demonstrations_only: bool) -> list[_Form]:
    parts: list[tuple[Grid, ...]] = [(pair.input, pair.output) for pair in task.demos]
    if not demonstrations_only:
        parts += [(grid,) for grid in (*task.tests, *(pair.input for pair in task.known))]
    return [_form(part, dihedral) for part in parts]


def _form(part: tuple[Grid, ...], dihedral: int) -> _Form:
    turned = [apply_dihedral(grid, dihedral) for grid in part]
    cells = b"".join([grid.tobytes() for grid in turned])
    colours = _first_seen(cells)
    return _Form(b"".join([bytes(grid.shape) for grid in turned]), cells.translate(_numbers(colours)), colours)


def _first_seen(cells: bytes) -> bytes:
    """Return the colours in order of their first cell; ten searches are faster than one loop over the cells."""
    places = sorted((cells.find(colour), colour) for colour in range(10))
    return bytes([colour for place, colour in places if place >= 0])


def _numbers(colours: bytes) -> bytearray:
    """Return a translation table from colours to their ranks."""
    table = bytearray(256)
    for number, colour in enumerate(colours):
        table[colour] = number
    return table


def _canonical(forms: list[_Form]) -> bytes:
    """Return bytes that are invariant under the order of the parts and under permutations of colours."""
    parts = sorted((form.shape, form.cells, form.colours) for form in forms)
    if any(a[:2] == b[:2] for a, b in pairwise(parts)):
        return _refined(forms)
    # distinct parts have a unique order, which fixes the order of first occurrence of the colours
    colours = b"".join(part[2] for part in parts)
    shapes = b"".join(bytes([len(shape), len(used)]) + shape + cells for shape, cells, used in parts)
    return shapes + colours.translate(_numbers(_first_seen(colours)))


def _refined(forms: list[_Form]) -> bytes:
    """Return a hash by colour refinement (1-dimensional Weisfeiler-Leman): each round hashes every part with the
    colours in it and every colour with its parts; invariant under order."""
    parts = [hashlib.sha256(b"part %d " % len(form.shape) + form.shape + form.cells).digest() for form in forms]
    known = list(parts)
    for _ in range(3):
        seen: dict[int, list[bytes]] = defaultdict(list)
        for form, name in zip(forms, known, strict=True):
            for number, colour in enumerate(form.colours):
                seen[colour].append(name + bytes([number]))
        colours = {colour: hashlib.sha256(b"".join(sorted(names))).digest() for colour, names in seen.items()}
        known = [
            hashlib.sha256(part + b"".join(colours[colour] for colour in form.colours)).digest()
            for part, form in zip(parts, forms, strict=True)
        ]
    return hashlib.sha256(b"".join(sorted(known))).digest()


def _match(forms: list[_Form], goal: list[_Form], colours: dict[int, int]) -> dict[int, int] | None:
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
