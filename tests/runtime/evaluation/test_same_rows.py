"""Rows that several views share are computed once: those of views without a puzzle id, on inputs that look alike."""

from __future__ import annotations

import numpy as np
from packed_support import DATASET

from gridloom.runtime.data.arc.tokens import encode_batch
from gridloom.runtime.data.arc.views import IDENTITY, View
from gridloom.runtime.evaluation.ballots import Ballots
from gridloom.runtime.evaluation.same_rows import RowAnswer, SameRows
from gridloom.runtime.evaluation.voters import Target, Voter

SWAP = View(colours=(0, 2, 1, 3, 4, 5, 6, 7, 8, 9))
TURN = View(dihedral=5)


def target(*ids: int) -> Target:
    voters = tuple(Voter(0, view, number, 4) for view, number in zip((IDENTITY, SWAP, TURN), ids, strict=True))
    return Target(DATASET.tasks[0], 0, voters, Ballots(3), (), (2, 3))


def test_views_that_share_an_id_and_look_alike_are_one_row() -> None:
    same = SameRows([target(0, 0, 0)])
    grid = np.array([[3, 4]], dtype=np.uint8)  # without the colours that SWAP exchanges, and one row high
    tokens = encode_batch([grid] * 3, 4, [IDENTITY, SWAP, TURN])
    keys = [same.key(0, view, tokens[view]) for view in range(3)]
    assert keys[0] == keys[1] == keys[2] is not None
    fresh = same.split(keys)
    assert fresh.tolist() == [0]
    answer = RowAnswer(tokens[0], 0.5, 4)
    assert same.join(keys, fresh, [answer]) == [answer] * 3
    assert same.num_reused == 2
    later = same.split(keys[:1])
    assert not len(later), "a later batch reuses the answer"
    assert same.join(keys[:1], later, []) == [answer]
    same.forget(0)
    assert same.split(keys[:1]).tolist() == [0]


def test_rows_that_differ_in_tokens_or_id_are_computed() -> None:
    grid = np.array([[1, 4]], dtype=np.uint8)
    tokens = encode_batch([grid] * 3, 4, [IDENTITY, SWAP, TURN])
    alike = SameRows([target(0, 0, 0)])
    assert alike.split([alike.key(0, view, tokens[view]) for view in range(3)]).tolist() == [0, 1]
    known = SameRows([target(1, 2, 3)])
    keys = [known.key(0, view, tokens[0]) for view in range(3)]
    assert keys == [None, None, None], "each view has an embedding of its own"
    assert known.split(keys).tolist() == [0, 1, 2]
