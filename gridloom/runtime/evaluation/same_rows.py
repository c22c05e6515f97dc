"""Rows of an evaluation that are computed once for several views.

Views that a network has no puzzle id for share the id of the whole task, or the blank one. Where such views also show a
test input alike, as a permutation of colours that it lacks does, the rows are the same, and so are their answers but
for the view that is undone afterwards. Packed rows are the same only where their rectangles are too: a view that turns
a symmetric input shows it alike, and asks for an output of exchanged sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridloom.runtime.data.arc.packing.row_shapes import turned
from gridloom.runtime.data.arc.tokens import encode_batch
from gridloom.runtime.evaluation.voters import Target


class RowAnswer(NamedTuple):
    """Answer of a row before its view is undone."""

    tokens: NDArray[np.uint8]
    """uint8 [L]"""
    q_halt: float
    act_steps: int

    def to_json(self) -> list[Any]:
        """Return the answer as JSON values for `from_json`."""
        return [self.tokens.tobytes().hex(), self.q_halt, self.act_steps]

    @classmethod
    def from_json(cls, values: list[Any]) -> RowAnswer:
        """Return the answer of `to_json` values."""
        tokens, q_halt, act_steps = values
        return cls(np.frombuffer(bytes.fromhex(tokens), dtype=np.uint8), q_halt, act_steps)


Key = tuple[int, int, int, tuple[int, int] | None, bytes]
"""Target, member, puzzle id, rows and columns of a packed row, input tokens."""


class SameRows:
    """Answers of rows that other views may share."""

    def __init__(self, targets: Sequence[Target], packed: frozenset[int] = frozenset()) -> None:
        """Args: packed: members with packed rows."""
        self.targets, self._packed = targets, packed
        self._known: dict[Key, RowAnswer] = {}
        self._shared: dict[int, frozenset[tuple[int, int]]] = {}
        self.num_reused = 0
        """Rows that were not computed."""

    def key(self, index: int, view: int) -> Key | None:
        """Return what rows with the same answer have in common; None where no other view has the puzzle id."""
        if index not in self._shared:
            counts = Counter((voter.member, voter.puzzle_id) for voter in self.targets[index].voters)
            self._shared[index] = frozenset(pair for pair, number in counts.items() if number > 1)
        target = self.targets[index]
        voter = target.voters[view]
        own = (voter.member, voter.puzzle_id)
        if own not in self._shared[index]:
            return None
        tokens = encode_batch([target.task.tests[target.test_index]], voter.canvas, [voter.view])
        shape = None
        if voter.member in self._packed:
            plain, dihedral = np.array([target.shape]), np.array([voter.view.dihedral], dtype=np.uint8)
            height, width = turned(plain, dihedral)[0].tolist()
            shape = height, width
        return (index, *own, shape, tokens.tobytes())

    def split(self, keys: Sequence[Key | None], coming: set[Key]) -> NDArray[np.int64]:
        """Return the rows of a batch that must be computed, int64.

        Args:
            coming: keys that earlier batches in progress compute; those of this batch are added.
        """
        fresh: list[int] = []
        for number, key in enumerate(keys):
            if key is None or (key not in self._known and key not in coming):
                fresh.append(number)
                coming |= set() if key is None else {key}
        return np.array(fresh, dtype=np.int64)

    def join(
        self, keys: Sequence[Key | None], fresh: NDArray[np.int64], answers: Sequence[RowAnswer]
    ) -> list[RowAnswer]:
        """Return the answers of a whole batch from those of its `fresh` rows."""
        computed = dict(zip(fresh.tolist(), answers, strict=True))
        for number, answer in computed.items():
            if (key := keys[number]) is not None:
                self._known[key] = answer
        self.num_reused += len(keys) - len(fresh)
        found = []
        for number, key in enumerate(keys):
            found.append(computed[number] if key is None or number in computed else self._known[key])
        return found

    def forget(self, index: int) -> None:
        """Drop the answers of a test input whose views have all run."""
        for key in [key for key in self._known if key[0] == index]:
            del self._known[key]
