"""Keys of pairs are equal for what a view shows, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from data_cases import grids
from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.compiler.facts import PairKey, pack_pair, unpack_pair
from gridloom.runtime.data.arc.canonical import task_key
from gridloom.runtime.data.arc.content_keys import content_key
from gridloom.runtime.data.arc.views import View
from gridloom.runtime.data.tasks import Grid, Pair, Task

views = st.builds(View, st.integers(0, 7), st.permutations(range(10)).map(tuple))
small = grids(3, 2)


def keys_of(first: Grid, second: Grid) -> PairKey:
    return content_key(Task("t", "x", (Pair(first, second),), ()), False).pairs[0]


@given(small, small, views)
def test_a_view_keeps_the_keys_up_to_symmetry(first: Grid, second: Grid, view: View) -> None:
    plain, shown = keys_of(first, second), keys_of(view.apply(first), view.apply(second))
    assert (plain.pair, plain.input) == (shown.pair, shown.input)
    assert (plain.small, plain.small_input, plain.plain_input) == (shown.small, shown.small_input, shown.plain_input)
    turned = replace(view, colours=tuple(range(10)))
    assert keys_of(turned.apply(first), turned.apply(second)).turned == plain.turned


@settings(max_examples=60)
@given(small, small, small, small)
def test_equal_keys_are_equal_under_a_view(first: Grid, second: Grid, third: Grid, fourth: Grid) -> None:
    """All 8 turns of one pair, colours numbered in order of appearance, against the other's: what equality means."""

    def numbered(a: Grid, b: Grid) -> tuple[object, ...]:
        order = list(dict.fromkeys([*a.flat, *b.flat]))
        return (a.shape, b.shape, [order.index(c) for c in a.flat], [order.index(c) for c in b.flat])

    def turns(a: Grid, b: Grid) -> list[tuple[Grid, Grid]]:
        return [(View(turn).apply(a), View(turn).apply(b)) for turn in range(8)]

    one, other = keys_of(first, second), keys_of(third, fourth)
    goal = numbered(third, fourth)
    assert (one.pair == other.pair) == any(numbered(*turned) == goal for turned in turns(first, second))
    same = [np.array_equal(a, third) and np.array_equal(b, fourth) for a, b in turns(first, second)]
    assert (one.turned == other.turned) == any(same)
    assert (one.cells == other.cells) == same[0]


def test_every_pair_of_a_task_has_its_role_and_the_task_its_key() -> None:
    grid = np.array([[1, 2], [0, 0]], dtype=np.uint8)
    pairs = tuple(Pair(grid + i, grid) for i in range(3))
    held = Task("t", "x", pairs, (grid, grid + 5), (), (2,))
    key = content_key(held, True, (grid, grid))
    assert [pair.role for pair in key.pairs] == ["demo", "demo", "check", "held", "held"]
    assert key.key == task_key(held, demonstrations_only=True)
    assert all(pair.cells for pair in key.pairs)
    unanswered = content_key(held, True).pairs[3]
    assert (unanswered.pair, unanswered.turned, unanswered.cells) == ("", "", "")
    assert unanswered.input == key.pairs[3].input
    given = content_key(Task("t", "x", pairs, (), pairs[:1]), False)
    assert [pair.role for pair in given.pairs] == ["demo", "demo", "demo", "known"]
    assert given.pairs[3] == replace(given.pairs[0], role="known")


def test_keys_of_a_pair_survive_a_bundle() -> None:
    pair = keys_of(np.array([[1, 2, 3, 4, 5] * 2], dtype=np.uint8), np.array([[1, 2], [3, 4], [5, 6]], dtype=np.uint8))
    assert unpack_pair(pack_pair(pair)) == replace(pair, role="known")
