"""Training data of a network: endless stream of rows, their shape and vocabulary, and the names of their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gridloom.errors import StageError
from gridloom.runtime.checkpoints.description import answers_of, pairs_of, read_description
from gridloom.runtime.data.arc.canonical import trained_answers
from gridloom.runtime.data.arc.content_keys import trained_pairs
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import CanvasSampler, Sampler
from gridloom.runtime.data.batch import Batch
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.sequences.artifact import SequenceSpec, load_sequences, sequences_digest
from gridloom.runtime.data.sequences.tokens import token_layout, token_rows
from gridloom.runtime.data.sequences.vectors import vector_layout, vector_rows
from gridloom.runtime.models.kind import MODELS, RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.specs.data import VOCABULARY
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class Material:
    """Training rows by batch number: batch n depends on (seed, n) alone, so a resumed run gets the same rows."""

    kind: str
    """Kind of the data entry: arc, maze, sudoku, parity, ..."""
    rows: RowShape
    """Shape of the rows: canvas, tokens or vectors, vocabulary."""
    ids: PuzzleIds
    """Names of the puzzle ids; only the blank id for puzzles and sequences."""
    batch: Callable[[int, int], Batch]
    """(step from 0, batch size) -> batch."""
    meta: dict[str, Any]
    """Description of the data in a bundle; JSON values."""
    sides: tuple[int, ...] = ()
    """Sides of the canvases in use; empty if all tasks use `rows.canvas`."""

    def network(self, spec: NetworkSpec, generator: torch.Generator | None = None) -> Network:
        """Build a network for these rows; several ids get an embedding row per task beside the row per id."""
        network: Network = (
            MODELS.get(spec.kind)
            .builder()
            .for_rows(spec, self.rows, self.ids, per_task=len(self.ids) > 1, generator=generator)
        )
        network.take_canvases(self.sides or (self.rows.canvas,))
        return network


def load_material(artifact: Artifact, seed: int, reads: Sequence[str] = ("tokens",)) -> Material:
    """Open a dataset artifact of any kind for training.

    Args:
        reads: kinds of rows that the network accepts, preferred first: 'tokens', 'vectors'.

    Raises:
        DataError: the artifact is damaged or empty.
        StageError: the data has no rows of a kind that the network accepts.
    """
    if artifact.type == "puzzles":
        return _puzzles(artifact, seed)
    if artifact.type == "sequences":
        return _sequences(artifact, reads)
    dataset = load_dataset(artifact.path)
    sampler = CanvasSampler(dataset, seed) if dataset.canvases else Sampler(dataset, seed)
    return Material(
        kind="arc",
        rows=RowShape(dataset.canvas, dataset.canvas**2, VOCABULARY),
        sides=dataset.sides,
        ids=PuzzleIds(sampler.views.names),
        batch=sampler.batch,
        meta=arc_meta(dataset),
    )


def arc_meta(dataset: Dataset) -> dict[str, Any]:
    """Return the description of ARC training tasks for a bundle; the leak rule GL401 reads `answers_of` and
    `pairs_of`."""
    return {
        "kind": "arc",
        "digest": dataset.digest,
        "version": dataset.version,
        "tasks": len(dataset.tasks),
        "augment": dataset.augment.model_dump(mode="json"),
        "answers_of": trained_answers(dataset.tasks),
        "pairs_of": trained_pairs(dataset.tasks),
    }


def with_earlier(meta: dict[str, Any], before: Artifact | None) -> dict[str, Any]:
    """Add the answers and pairs that the initial checkpoint was trained on, since its weights may encode them."""
    if before is None:
        return meta
    earlier = read_description(before.path)["meta"]
    answers, pairs = answers_of(earlier), pairs_of(earlier)
    if answers:
        meta = {**meta, "answers_of": {**answers, **meta.get("answers_of", {})}}
    if pairs:
        ours = meta.get("pairs_of", {})
        both = {task: list(dict.fromkeys((*pairs.get(task, ()), *ours.get(task, ())))) for task in {**pairs, **ours}}
        meta = {**meta, "pairs_of": both}
    return meta


def _puzzles(artifact: Artifact, seed: int) -> Material:
    puzzles = load_puzzles(artifact.path)
    sampler = PuzzleSampler(puzzles, seed)
    return Material(
        kind=puzzles.kind,
        rows=RowShape(puzzles.size, puzzles.size**2, puzzles.vocab),
        ids=PuzzleIds.of(()),
        batch=sampler.batch,
        meta={
            "kind": puzzles.kind,
            "digest": puzzles.digest,
            "version": f"{puzzles.kind} {puzzles.digest[:7]}",
            "puzzles": sampler.epoch_rows,
            "augment": puzzles.augment,
        },
    )


def _sequences(artifact: Artifact, reads: Sequence[str]) -> Material:
    spec = load_sequences(artifact.path)
    digest = sequences_digest(spec)
    rows, batch = _rows_of(spec, reads)
    return Material(
        kind=spec.kind,
        rows=rows,
        ids=PuzzleIds.of(()),
        batch=batch,
        meta={
            "kind": spec.kind,
            "digest": digest,
            "version": f"{spec.kind} {digest[:7]}",
            "spec": spec.model_dump(mode="json"),
        },
    )


def _rows_of(spec: SequenceSpec, reads: Sequence[str]) -> tuple[RowShape, Callable[[int, int], Batch]]:
    """Return the rows of a sequence task in the first form of `reads` that the task has."""
    tokens, vectors = token_layout(spec), vector_layout(spec)
    for form in reads:
        if form == "tokens" and tokens is not None:
            rows = RowShape(0, tokens.num_cells, tokens.vocabulary)
            return rows, lambda step, batch_size: token_rows(spec, step, batch_size)
        if form == "vectors" and vectors is not None:
            rows = RowShape(0, vectors.num_steps, vectors.vocabulary, vectors.num_features)
            return rows, lambda step, batch_size: vector_rows(spec, step, batch_size)
    has, wanted = ("tokens", "vectors of numbers") if vectors is None else ("numbers", "tokens")
    raise StageError(
        f"{spec.kind} rows are {has}, not {wanted}, so this network cannot be trained on them",
        "use parity, addition, copy or string_addition" if wanted == "tokens" else "use parity, logic or sort",
    )
