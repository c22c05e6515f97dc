"""Rows of a built dataset for training and evaluation, and the baselines that a network must beat."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gridloom.errors import DataError
from gridloom.runtime.data.built.store import StoredRows, damage, join, read_manifest, read_rows
from gridloom.specs.built import BuiltData


@lru_cache(maxsize=8)
def split_rows(folder: str, split: str) -> StoredRows:
    """Return all rows of a split, each file checked against its hash. Raises DataError for a damaged or partial one."""
    place = Path(folder) / split
    manifest = read_manifest(place)
    if not manifest.complete:
        raise DataError(
            f"{place} is not complete: {manifest.next_row:,} of {manifest.rows:,} rows", "build it again: it goes on"
        )
    for entry in manifest.files:
        if problem := damage(place, entry):
            raise DataError(f"{place / entry.name} is damaged: {problem}", "build the dataset again")
    return join([read_rows(place / entry.name) for entry in manifest.files])


def num_rows(spec: BuiltData, split: str) -> int:
    """Return the number of stored rows of a split."""
    return read_manifest(Path(spec.folder) / split).rows


def drawn_rows(spec: BuiltData, step: int, batch_size: int, split: str) -> StoredRows:
    """Return rows step * batch_size ... of a split: of `train` in a new order each epoch, of others as stored.

    Numbers beyond the last row begin again.
    """
    whole = split_rows(spec.folder, split)
    total = len(whole.inputs)
    numbers = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    at = numbers % total
    if split == "train":
        for epoch in np.unique(numbers // total).tolist():
            own = numbers // total == epoch
            at[own] = _shuffled(spec.seed, int(epoch), total)[at[own]]
    return StoredRows(whole.inputs[at], whole.labels[at], whole.index[at], whole.source[at])


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, total: int) -> NDArray[np.int64]:
    return np.random.Generator(np.random.PCG64([seed, epoch, total])).permutation(total)


def baselines(folder: Path, split: str = "test") -> dict[str, float]:
    """Return what answers without reading the question reach on a split: a unigram model of the training answers.

    `unigram_entropy`: its cross-entropy in nats a token; `majority_share`: share of the most frequent token.
    """
    train, test = (split_rows(str(folder), name).labels for name in ("train", split))
    counts = np.bincount(train[train != 0], minlength=256).astype(np.float64)
    seen = test[test != 0]
    share = (counts + 1e-3) / (counts + 1e-3).sum()
    return {
        "unigram_entropy": float(-np.log(share[seen]).mean()),
        "majority_share": float((seen == counts.argmax()).mean()),
    }
