"""Rows of the training data that are held apart for validation, chosen by seed and content; none is trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import StageError
from gridloom.runtime.data import kernels
from gridloom.runtime.data.arc.dataset import Dataset
from gridloom.runtime.data.files.arrays import SplitArrays
from gridloom.runtime.data.puzzles.puzzle_set import PuzzleSet, symmetry_keys
from gridloom.runtime.data.tasks import Grid, Pair, Task, grid_bytes
from gridloom.specs.validation import TEST, Validation

FEWEST_DEMOS = 3
"""Demonstrations from which a task gives its last one, where no task has a known test pair."""
_STREAM = np.uint64(0x76616C6964)
"""Constant that separates the choice of validation puzzles from the order of training rows."""


@dataclass(frozen=True, slots=True, eq=False)
class TasksApart:
    """ARC tasks with the pairs that are held apart."""

    dataset: Dataset
    """Dataset for training, without those pairs; the inputs of held-apart pairs are test inputs of their tasks."""
    tasks: tuple[Task, ...]
    """Tasks whose `tests` are the held-apart inputs, by id."""
    answers: dict[str, tuple[Grid, ...]]
    """Outputs of the held-apart pairs by task id."""


@dataclass(frozen=True, slots=True, eq=False)
class PuzzlesApart:
    """Puzzles for training, and those that are held apart."""

    puzzles: PuzzleSet
    inputs: NDArray[np.uint8]
    """uint8 [N, L]"""
    labels: NDArray[np.uint8]


def tasks_apart(dataset: Dataset, wanted: Validation, seed: int) -> TasksApart:
    """Choose tasks by a hash of seed and id, and hold their known test pairs apart.

    Where no task has a known test pair, the last demonstration of each chosen task is held apart. A pair that equals a
    held-apart pair is left out of every task's training pairs. Raises StageError where no task can give a pair.
    """
    giving = {task.task_id: task.known for task in dataset.tasks if task.known and _stays(task, task.known)}
    if wanted.split is not None:
        subset = {task.task_id for task in dataset.tasks if task.subset == wanted.split}
        giving = {task_id: pairs for task_id, pairs in giving.items() if task_id in subset}
    elif not giving:
        giving = {
            task.task_id: (task.train_pairs[-1],) for task in dataset.tasks if len(task.train_pairs) >= FEWEST_DEMOS
        }
    if not giving:
        where = f"of subset {wanted.split!r} " if wanted.split is not None else ""
        raise StageError(
            f"no task {where}has a pair to hold apart for validation: a known test pair, or a third demonstration",
            "remove validate, or train on a dataset with a subset that is not held out",
        )
    ranked = sorted(giving, key=lambda task_id: hashlib.sha256(f"validation {seed} {task_id}".encode()).digest())
    number = len(ranked) if wanted.share is None else max(1, round(wanted.share * len(ranked)))
    chosen, taken = _taken(dataset.tasks, giving, ranked, number if wanted.limit is None else min(number, wanted.limit))
    tasks, asked, answers = [], [], {}
    for task in dataset.tasks:
        left = _without(task, taken)
        assert left is not None, "a task keeps a training pair"
        if task.task_id in chosen:
            pairs = giving[task.task_id]
            # without the held pairs: sizes of rows and canvases follow from what training sees
            asked.append(replace(left, tests=tuple(pair.input for pair in pairs)))
            left = replace(left, tests=task.tests + tuple(pair.input for pair in pairs))
            answers[task.task_id] = tuple(pair.output for pair in pairs)
        tasks.append(left)
    asked.sort(key=lambda task: task.task_id)
    return TasksApart(replace(dataset, tasks=tuple(tasks)), tuple(asked), answers)


def _taken(
    tasks: Sequence[Task], giving: Mapping[str, Sequence[Pair]], ranked: Sequence[str], number: int
) -> tuple[set[str], set[bytes]]:
    """Return up to `number` tasks in ranked order, and their pairs as bytes, such that every task keeps a pair."""
    holders: dict[bytes, list[Task]] = {}
    for task in tasks:
        for pair in task.train_pairs:
            holders.setdefault(_pair_bytes(pair), []).append(task)
    chosen: set[str] = set()
    taken: set[bytes] = set()
    for task_id in ranked:
        more = taken | {_pair_bytes(pair) for pair in giving[task_id]}
        if all(_without(task, more) is not None for pair in giving[task_id] for task in holders[_pair_bytes(pair)]):
            chosen.add(task_id)
            taken = more
        if len(chosen) == number:
            break
    return chosen, taken


def puzzles_apart(puzzles: PuzzleSet, wanted: Validation, seed: int) -> PuzzlesApart:
    """Hold the test split apart, or a share of the training puzzles that no symmetry maps to another one.

    Raises StageError where there is no such split, or where all training puzzles are one under the symmetries.
    """
    if wanted.share is None:
        arrays = puzzles.splits.get(TEST)
        if arrays is None:
            raise StageError(f"this {puzzles.kind} set has no test puzzles", "raise test, or validate a share")
        return PuzzlesApart(puzzles, *_rows(arrays, slice(0, wanted.limit)))
    arrays = puzzles.splits["train"]
    inputs, labels = _rows(arrays, slice(None))
    # training draws a puzzle under its symmetries: what it could meet so belongs to the same side
    keys = symmetry_keys(puzzles.kind, inputs, labels) if puzzles.augment else _content_keys(inputs, labels)
    _, classes, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    number = max(1, round(wanted.share * len(inputs)))
    order = kernels.epoch_order(np.uint64(seed % 2**64) ^ _STREAM, 0, len(sizes))
    most = min(number if wanted.limit is None else min(number, wanted.limit), len(inputs) - 1)
    # classes in drawn order, but for those that are too large for what is left
    chosen: list[int] = []
    left = most
    for one in order.tolist():
        if sizes[one] <= left:
            chosen.append(one)
            left -= int(sizes[one])
        if left == 0:
            break
    apart = np.isin(classes.reshape(-1), chosen)
    if not apart.any():
        raise StageError(
            f"no {most:,} of the {len(inputs):,} training puzzles can be held apart: they are "
            f"{len(sizes):,} under the symmetries that training draws, the smallest class has {int(sizes.min()):,}",
            "raise share, train on more puzzles, or turn the symmetries off (shuffle, dihedral)",
        )
    kept = replace(arrays, inputs=inputs[~apart], labels=labels[~apart])
    return PuzzlesApart(
        replace(puzzles, splits={**puzzles.splits, "train": kept}),
        inputs[apart],
        labels[apart],
    )


def _rows(arrays: SplitArrays, rows: slice) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    inputs, labels = (np.array(table[rows], dtype=np.uint8) for table in (arrays.inputs, arrays.labels))
    return inputs, labels


def _content_keys(inputs: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return the first eight bytes of the sha256 of each row: uint64 [N]."""
    digests = [hashlib.sha256(a.tobytes() + b.tobytes()).digest()[:8] for a, b in zip(inputs, labels, strict=True)]
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def _pair_bytes(pair: Pair) -> bytes:
    return grid_bytes(pair.input) + grid_bytes(pair.output)


def _stays(task: Task, pairs: Sequence[Pair]) -> bool:
    """Return whether a task has a pair to train on without `pairs`."""
    return _without(task, {_pair_bytes(pair) for pair in pairs}) is not None


def _without(task: Task, taken: set[bytes]) -> Task | None:
    """Return a task whose training pairs are not in `taken`; None if none would be left."""
    if not any(_pair_bytes(pair) in taken for pair in task.train_pairs):
        return task
    # demonstrations keep their numbers: what training must not see is listed in `check`
    unseen = tuple(i for i, pair in enumerate(task.demos) if i in task.check or _pair_bytes(pair) in taken)
    left = replace(task, known=tuple(p for p in task.known if _pair_bytes(p) not in taken), check=unseen)
    return left if left.train_pairs else None
