"""Rows that several views share are computed once: those of views without a puzzle id, on inputs that look alike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from packed_support import DATASET

from gridloom.runtime.data.arc.tokens import encode_batch
from gridloom.runtime.data.arc.views import IDENTITY, View
from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.evaluation.same_rows import Key, RowAnswer, SameRows
from gridloom.runtime.evaluation.voters import Target, Voter

SWAP = View(colours=(0, 2, 1, 3, 4, 5, 6, 7, 8, 9))
TURN = View(dihedral=5)


def target(grid: Grid, *ids: int) -> Target:
    voters = tuple(Voter(0, view, number, 4) for view, number in zip((IDENTITY, SWAP, TURN), ids, strict=True))
    return Target(replace(DATASET.tasks[0], tests=(grid,)), 0, voters, Ballots(3), (), (2, 3))


def test_views_that_share_an_id_and_look_alike_are_one_row() -> None:
    grid = np.array([[3, 4]], dtype=np.uint8)  # without the colours that SWAP exchanges, and one row high
    same = SameRows([target(grid, 0, 0, 0)])
    tokens = encode_batch([grid], 4, [IDENTITY])
    keys = [same.key(0, view) for view in range(3)]
    assert keys[0] == keys[1] == keys[2] is not None
    fresh = same.split(keys, set())
    assert fresh.tolist() == [0]
    answer = RowAnswer(tokens[0], 0.5, 4)
    assert same.join(keys, fresh, [answer]) == [answer] * 3
    assert same.num_reused == 2
    later = same.split(keys[:1], set())
    assert not len(later), "a later batch reuses the answer"
    assert same.join(keys[:1], later, []) == [answer]
    same.forget(0)
    assert same.split(keys[:1], set()).tolist() == [0]


def test_a_batch_in_progress_counts_what_earlier_ones_compute() -> None:
    grid = np.array([[3, 4]], dtype=np.uint8)
    same, coming = SameRows([target(grid, 0, 0, 0)]), set[Key]()
    assert same.split([same.key(0, 0)], coming).tolist() == [0]
    assert same.split([same.key(0, 1), same.key(0, 2)], coming).tolist() == []


def test_rows_that_differ_in_tokens_or_id_are_computed() -> None:
    grid = np.array([[1, 4]], dtype=np.uint8)
    alike = SameRows([target(grid, 0, 0, 0)])
    assert alike.split([alike.key(0, view) for view in range(3)], set()).tolist() == [0, 1]
    known = SameRows([target(grid, 1, 2, 3)])
    keys = [known.key(0, view) for view in range(3)]
    assert keys == [None, None, None], "each view has an embedding of its own"
    assert known.split(keys, set()).tolist() == [0, 1, 2]


def test_packed_rows_of_exchanged_sides_are_two_rows() -> None:
    grid = np.array([[3, 4], [4, 3]], dtype=np.uint8)  # looks alike when it is transposed; its row is 2 x 3
    whole = target(grid, 0, 0, 0)
    transposed = replace(whole, voters=(whole.voters[0], Voter(0, View(dihedral=6), 0, 4)))
    same = SameRows([transposed], packed=frozenset({0}))
    assert same.split([same.key(0, view) for view in range(2)], set()).tolist() == [0, 1]
    whole_canvas = SameRows([transposed])
    assert whole_canvas.split([whole_canvas.key(0, view) for view in range(2)], set()).tolist() == [0]


def test_answers_survive_the_way_from_a_worker() -> None:
    answer = RowAnswer(np.array([2, 3, 1, 0], dtype=np.uint8), -0.1, 3)
    again = RowAnswer.from_json(json.loads(json.dumps(answer.to_json())))
    assert again.tokens.tolist() == answer.tokens.tolist()
    assert again[1:] == answer[1:]
