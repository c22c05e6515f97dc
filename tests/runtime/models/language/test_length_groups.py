from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from gridloom.runtime.models.language.head_cache import length_groups


def cost(lengths: list[int], groups: list[list[int]], forward_tokens: int) -> int:
    return sum(forward_tokens + len(group) * max(lengths[at] for at in group) for group in groups)


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=7), forward_tokens=st.integers(0, 40))
@settings(deadline=None)
def test_no_other_parting_of_the_sorted_rows_costs_less(lengths: list[int], forward_tokens: int) -> None:
    groups = length_groups(lengths, forward_tokens)
    assert sorted(at for group in groups for at in group) == list(range(len(lengths)))
    order = sorted(range(len(lengths)), key=lambda at: lengths[at])
    least = min(
        cost(lengths, [order[a:b] for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)], forward_tokens)
        for number in range(len(lengths))
        for cuts in combinations(range(1, len(lengths)), number)
    )
    assert cost(lengths, groups, forward_tokens) == least


def test_rows_of_one_length_stay_together_and_far_ones_part() -> None:
    assert length_groups([27, 27, 27], 64) == [[0, 1, 2]]
    assert length_groups([500, 27, 480, 30], 64) == [[1, 3], [0, 2]]
    assert length_groups([500, 27, 480, 30], 4096) == [[0, 1, 2, 3]]
    assert length_groups([], 64) == []
