"""Rows of one attempt (every test input and check pair under every view) and the votes over the TRM's results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.packing.row_shapes import ShapeRule, turned
from gridloom.runtime.data.arc.tokens import PAD, crop_batch, encode, encode_batch
from gridloom.runtime.data.arc.views import IDENTITY, View, parse_name
from gridloom.runtime.data.files.grids import rows
from gridloom.runtime.data.tasks import SEPARATOR, Grid, Task
from gridloom.runtime.evaluation.ballots import rank
from gridloom.solvers.types import ActStep, Candidate, Plan


@dataclass(frozen=True, slots=True, eq=False)
class AttemptRows:
    """N rows in a fixed order: test inputs, then check pairs; each with the identity first, then the plan's views."""

    inputs: NDArray[np.uint8]
    """Input tokens, uint8 [N, L]."""
    puzzle_ids: NDArray[np.int64]
    """Puzzle ids, int64 [N]."""
    views: tuple[View, ...]
    """Views of each target, one row per view: the identity and the plan's views."""
    num_tests: int
    num_checks: int
    canvas: int
    shapes: NDArray[np.int64] | None = None
    """int64 [N, 2], rectangles of the rows of a network with packed rows; None for whole canvases."""

    def __len__(self) -> int:
        return len(self.inputs)

    def first_row(self, test_index: int) -> int:
        """Return the row of a test input under the identity."""
        return test_index * len(self.views)


@dataclass(frozen=True, slots=True, eq=False)
class RowResults:
    """Outputs of the TRM for the rows of one attempt."""

    tokens: NDArray[np.uint8]
    """Output tokens, uint8 [N, L]."""
    q_halt: NDArray[np.float32]
    """Halting logits, fp32 [steps, N]; 0 after a row has halted."""
    changed: NDArray[np.int32]
    """Numbers of token positions whose argmax changed, int32 [steps, N]; 0 after a row has halted."""
    made: NDArray[np.int32] | None = None
    """Number of ACT steps of each row, int32 [N]; None where rows do not halt."""

    def last_q_halt(self) -> NDArray[np.float32]:
        """Return the halting logit of each row's last step, fp32 [N]."""
        return self.q_halt[-1] if self.made is None else self.q_halt[self.made - 1, np.arange(len(self.made))]

    def digest(self, more: bytes) -> str:
        """Return sha256 over tokens, halting logits, the numbers of ACT steps where rows may halt, and `more`."""
        digest = hashlib.sha256(np.ascontiguousarray(self.tokens).tobytes())
        digest.update(np.ascontiguousarray(self.q_halt).tobytes())
        if self.made is not None:
            digest.update(np.ascontiguousarray(self.made).tobytes())
        digest.update(more)
        return digest.hexdigest()

    def steps(self) -> tuple[ActStep, ...]:
        """Return mean halting logit and number of changed positions of each ACT step, over the rows of that step."""
        logits = self.q_halt.astype(np.float64)
        if self.made is None:
            counts, means = [self.q_halt.shape[1]] * len(logits), logits.mean(axis=1)
        else:
            counts = [int((self.made > step).sum()) for step in range(len(logits))]
            means = logits.sum(axis=1) / np.array(counts)
        return tuple(
            ActStep(q_halt=float(mean), changed_cells=int(changed.sum()), num_rows=count)
            for mean, changed, count in zip(means, self.changed, counts, strict=True)
        )


def make_rows(task: Task, plan: Plan, canvas: int, puzzle_ids: dict[str, int], *, packed: bool = False) -> AttemptRows:
    """Return the attempt's rows. A task without puzzle ids in the model runs under the blank id 0.

    Raises:
        ModelError: a grid is larger than the canvas.
    """
    views = (IDENTITY, *(parse_name(f"{task.task_id}{SEPARATOR}{tail}")[1] for tail in plan.views))
    targets: Sequence[Grid] = [*task.tests, *(pair.input for pair in task.check_pairs)]
    largest = max(max(grid.shape) for grid in targets)
    if largest > canvas:
        raise ModelError(
            f"task {task.task_id} has a side of {largest}, the checkpoint's canvas is {canvas}",
            "leave the task out (data.select.max_side) or train on a larger canvas (data.canvas)",
        )
    own = puzzle_ids.get(IDENTITY.name(task.task_id), 0)
    # a view that training did not draw has no embedding: the task's own id is the nearest conditioning
    ids = [puzzle_ids.get(view.name(task.task_id), own) for view in views]
    return AttemptRows(
        inputs=encode_batch([grid for grid in targets for _ in views], canvas, [*views] * len(targets)),
        puzzle_ids=np.array(ids * len(targets), dtype=np.int64),
        views=views,
        num_tests=len(task.tests),
        num_checks=len(targets) - len(task.tests),
        canvas=canvas,
        shapes=_shapes(task, targets, views, canvas) if packed else None,
    )


def _shapes(task: Task, targets: Sequence[Grid], views: Sequence[View], canvas: int) -> NDArray[np.int64]:
    rule = ShapeRule.of(task, canvas)
    plain = np.repeat([rule.row((grid.shape[0], grid.shape[1])) for grid in targets], len(views), axis=0)
    return turned(plain, np.array([view.dihedral for view in views] * len(targets), dtype=np.uint8))


def vote(batch: AttemptRows, results: RowResults) -> tuple[tuple[Candidate, ...], ...]:
    """Return the candidates of each target, best first: most votes, then confidence, then the earlier view.

    Rows whose tokens hold no grid do not vote but count in `num_views`.
    """
    crops = crop_batch(results.tokens, batch.canvas)
    # sigmoid in float64: exact enough to rank, and the same wherever numpy runs
    halting = 1.0 / (1.0 + np.exp(-results.last_q_halt().astype(np.float64)))
    num_views = len(batch.views)
    ranked = []
    for target in range(batch.num_tests + batch.num_checks):
        ballots: dict[bytes, list[int]] = {}
        grids: dict[bytes, Grid] = {}
        for number, view in enumerate(batch.views):
            row = target * num_views + number
            crop = crops[row]
            if crop is None:
                continue
            grid = view.inverse(crop)
            key = bytes(grid.shape) + grid.tobytes()
            ballots.setdefault(key, []).append(row)
            grids[key] = grid
        candidates = [
            Candidate(
                grid=rows(grids[key]),
                source="trm",
                votes=len(voters),
                num_views=num_views,
                confidence=float(halting[voters].mean()),
                whole=float(np.mean([_is_whole(results.tokens[row], crops[row], batch.canvas) for row in voters])),
            )
            for key, voters in ballots.items()
        ]
        # Ballots ranks these alike, but adds confidences one by one, while numpy's mean adds in pairs: from eight
        # voters on the last bits differ, and recorded attempts must replay bit for bit
        ranked.append(tuple(sorted(candidates, key=lambda c: rank(c.votes, c.confidence or 0.0))))
    return tuple(ranked)


def _is_whole(tokens: NDArray[np.uint8], crop: Grid | None, canvas: int) -> bool:
    """Return whether the EOS border of the crop is unbroken. Cells beyond the border are PAD, which has no loss."""
    assert crop is not None, "only rows with a crop vote"
    wanted = encode(crop, canvas)
    scored = wanted != PAD
    return bool(np.array_equal(tokens[scored], wanted[scored]))
