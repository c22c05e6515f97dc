"""Views: exact inverses, the reference's numbering, names, and drawing without repeats."""

from __future__ import annotations

from math import perm

import numpy as np
import pytest
from data_cases import grids, tasks
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.errors import DataError
from gridloom.runtime.data.arc.views import IDENTITY, View, parse_name, task_views, view_table
from gridloom.runtime.data.tasks import DIHEDRAL_INVERSE, Grid, Pair, Task, apply_dihedral
from gridloom.specs.data import Augment

views = st.builds(View, st.integers(0, 7), st.permutations(range(10)).map(tuple))
EVERY = Augment()


@given(grids(), views)
def test_inverse_undoes_every_view(grid: Grid, view: View) -> None:
    assert np.array_equal(view.inverse(view.apply(grid)), grid)
    assert np.array_equal(view.apply(view.inverse(grid)), grid)


@given(grids(max_side=4), st.integers(0, 7))
def test_dihedral_ids_are_the_reference_numbering(grid: Grid, dihedral: int) -> None:
    expected = (
        grid,
        np.rot90(grid),
        np.rot90(grid, 2),
        np.rot90(grid, 3),
        np.fliplr(grid),
        np.flipud(grid),
        grid.T,
        np.fliplr(np.rot90(grid)),
    )[dihedral]
    assert np.array_equal(apply_dihedral(grid, dihedral), expected)
    assert np.array_equal(apply_dihedral(expected, DIHEDRAL_INVERSE[dihedral]), grid)


@given(views)
def test_names_round_trip(view: View) -> None:
    assert parse_name(view.name("task")) == ("task", view)


def test_names_read_as_in_the_reference() -> None:
    view = View(3, (0, 2, 1, 3, 4, 5, 6, 7, 8, 9))
    assert view.name("0934a4d8") == "0934a4d8|||t3|||0213456789"
    assert parse_name("0934a4d8") == ("0934a4d8", IDENTITY)


@pytest.mark.parametrize(
    "name", ["a|||t8|||0123456789", "a|||t1|||0023456789", "a|||1|||0123456789", "a|||t1", "a|||t1|||x"]
)
def test_wrong_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="not a puzzle name"):
        parse_name(name)


def content(task: Task, view: View) -> bytes:
    """What a task shows under a view, pairs in no order."""

    def told(grid: Grid) -> bytes:
        shown = view.apply(grid)
        return bytes(shown.shape) + shown.tobytes()

    pairs = [told(pair.input) + b">" + told(pair.output) for pair in (*task.demos, *task.known)]
    return b"|".join(sorted(pairs + [told(grid) for grid in task.tests]))


@given(tasks(max_side=3), st.integers(0, 2**31 - 1), st.integers(0, 60))
def test_no_two_views_of_a_task_show_the_same(task: Task, seed: int, copies: int) -> None:
    drawn = task_views(task, seed, copies, EVERY)
    assert drawn[0] == IDENTITY
    assert len({content(task, view) for view in drawn}) == len(drawn) <= copies + 1
    assert all(view.colours[0] == 0 for view in drawn)


@settings(max_examples=20)
@given(tasks(max_side=2, max_colour=2), st.integers(0, 2**31 - 1))
def test_small_pools_are_drawn_to_the_last_view(task: Task, seed: int) -> None:
    used = sorted(
        {int(c) for pair in task.demos for g in (pair.input, pair.output) for c in np.unique(g)}
        | {int(c) for g in task.tests for c in np.unique(g)}
    )
    everything = set()
    for dihedral in range(8):
        for first in range(1, 10):
            for second in range(1, 10):
                if first != second:
                    rest = [c for c in range(1, 10) if c not in (first, second)]
                    everything.add(content(task, View(dihedral, (0, first, second, *rest))))
    drawn = task_views(task, seed, 5000, EVERY)
    assert len(drawn) == len(everything) <= 8 * perm(9, sum(colour > 0 for colour in used))


@given(tasks(max_side=3), st.integers(0, 2**31 - 1))
def test_fewer_copies_are_a_prefix_of_more(task: Task, seed: int) -> None:
    assert task_views(task, seed, 7, EVERY) == task_views(task, seed, 40, EVERY)[:8]


@pytest.mark.parametrize(("dihedral", "colours"), [(True, False), (False, True), (False, False)])
def test_switched_off_symmetries_are_not_drawn(dihedral: bool, colours: bool) -> None:
    grid = np.arange(9, dtype=np.uint8).reshape(3, 3)
    task = Task("t", "training", (Pair(grid, grid),), ())
    drawn = task_views(task, 0, 30, Augment(dihedral=dihedral, colours=colours))
    assert len(drawn) == (31 if colours else 8 if dihedral else 1)
    assert dihedral or all(view.dihedral == 0 for view in drawn)
    assert colours or all(view.colours == IDENTITY.colours for view in drawn)


def test_views_depend_on_seed_and_task_but_not_on_other_tasks() -> None:
    grid = np.arange(9, dtype=np.uint8).reshape(3, 3)
    one, two = (Task(name, "training", (Pair(grid, grid),), ()) for name in ("one", "two"))
    assert task_views(one, 0, 9, EVERY) != task_views(two, 0, 9, EVERY)
    assert task_views(one, 0, 9, EVERY) != task_views(one, 1, 9, EVERY)
    table = view_table((two, one), 0, 9, EVERY)
    assert table.of_task(1) == task_views(one, 0, 9, EVERY)
    assert table.names[0] == "<blank>"
    assert table.names[11] == "one|||t0|||0123456789"
    assert [parse_name(name)[1] for name in table.names[1:11]] == list(table.of_task(0))
    assert table.num_puzzles == len(table.names) == 21


GOLDEN = ["t|||t0|||0123456789", "t|||t5|||0589327461", "t|||t6|||0412863975", "t|||t3|||0126937845"]
GOLDEN_FEW = ["t|||t0|||0123456789", "t|||t1|||0521346789", "t|||t7|||0631245789", "t|||t4|||0341256789"]


def test_first_views_never_change() -> None:
    """Puzzle embeddings of old checkpoints are found by these names; a change needs a new version."""
    grid = np.arange(9, dtype=np.uint8).reshape(3, 3)
    task = Task("t", "training", (Pair(grid, grid),), ())
    few = Task("t", "training", (Pair(grid % 3, grid % 3),), ())
    assert [view.name("t") for view in task_views(task, 0, 3, EVERY)] == GOLDEN
    assert [view.name("t") for view in task_views(few, 0, 3, EVERY)] == GOLDEN_FEW
