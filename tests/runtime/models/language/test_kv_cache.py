from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from gridloom.runtime.models.language.kv_cache import preallocated_cache

MOVES = st.lists(st.one_of(st.integers(1, 7), st.lists(st.integers(0, 3), min_size=1, max_size=4)), max_size=8)
"""New positions, or the rows that stay."""


def states(rows: int, length: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 2, length, 3), torch.randn(rows, 2, length, 3)


@given(moves=MOVES, room=st.integers(0, 9), held=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_holds_what_the_librarys_own_cache_holds(moves: list[int | list[int]], room: int, held: int) -> None:
    rows = 4
    first = [states(rows, held) for _ in range(2)] if held else []
    ours, theirs = preallocated_cache(room, first), DynamicCache(first or None)
    for move in moves:
        if isinstance(move, list):
            stay = torch.tensor([at % rows for at in move])
            if not len(theirs.layers):
                continue
            ours.batch_select_indices(stay)
            theirs.batch_select_indices(stay)
            rows = len(stay)
            continue
        for layer in range(2):
            new = states(rows, move)
            mine, wanted = ours.update(*new, layer), theirs.update(*new, layer)
            assert all(torch.equal(a, b) for a, b in zip(mine, wanted, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_new_tokens_are_written_where_there_is_room() -> None:
    cache = preallocated_cache(3, [states(2, 5)])
    before = cache.layers[0].keys.data_ptr()
    for _ in range(3):
        cache.update(*states(2, 1), 0)
    assert cache.layers[0].keys.data_ptr() == before
    cache.update(*states(2, 1), 0)
    assert cache.layers[0].keys.shape[2] == 9


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
def test_gradient_reaches_what_was_joined(needs: tuple[bool, bool]) -> None:
    cache = preallocated_cache(2, [states(1, 2)])
    new = tuple(t.requires_grad_(wanted) for t, wanted in zip(states(1, 1), needs, strict=True))
    keys, values = cache.update(*new, 0)
    (keys.sum() + values.sum()).backward()
    assert [t.grad is not None for t in new] == list(needs)
    with torch.no_grad():
        kept = keys.detach().clone()
        cache.update(*states(1, 1), 0)
    assert torch.equal(keys.detach(), kept)
