"""What a network is trained on: an endless stream of rows, their shape and vocabulary, and the names of their ids."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from gridloom.errors import StageError
from gridloom.runtime.checkpoints.description import answers_of, read_description
from gridloom.runtime.data.arc.canonical import trained_answers
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.arc.sampler import CanvasSampler, Sampler
from gridloom.runtime.data.batch import Batch
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.sequences.artifact import load_sequences, sequences_digest
from gridloom.runtime.data.sequences.tokens import token_layout, token_rows
from gridloom.runtime.models.build import build_network, views_for
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.recursive.network import RecursiveNetwork
from gridloom.specs.data import VOCABULARY
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to learn, by number: batch n depends on (seed, n) alone, so a resumed run sees the same rows."""

    kind: str
    """Kind of the data entry: arc, maze, sudoku, parity, ..."""
    canvas: int
    """Side of the square; 0 for sequences."""
    num_cells: int
    """Tokens L of a row."""
    vocabulary: int
    ids: PuzzleIds
    """Names of the puzzle ids; puzzles and sequences have the blank one alone."""
    batch: Callable[[int, int], Batch]
    """(step from 0, batch size) -> rows."""
    meta: dict[str, Any]
    """What a bundle tells of its data; JSON values."""
    sides: tuple[int, ...] = ()
    """Canvases that tasks lie on; none but `canvas` where empty."""

    def network(self, spec: NetworkSpec, generator: torch.Generator | None = None) -> RecursiveNetwork:
        """Build a network for such rows; where tasks have several ids, each id shares a row with its task."""
        by_view = spec.embeds_views
        network = build_network(
            spec,
            self.canvas,
            len(self.ids),
            task_of=self.ids.task_of if len(self.ids) > 1 or by_view else None,
            views=views_for(spec, self.ids),
            vocabulary=self.vocabulary,
            num_cells=self.num_cells,
            generator=generator,
        )
        network.take_canvases(self.sides or (self.canvas,))
        return network


def load_material(artifact: Artifact, seed: int) -> Material:
    """Open a dataset artifact of any kind for training. Raises DataError, or StageError for what is no tokens."""
    if artifact.type == "puzzles":
        return _puzzles(artifact, seed)
    if artifact.type == "sequences":
        return _sequences(artifact)
    dataset = load_dataset(artifact.path)
    sampler = CanvasSampler(dataset, seed) if dataset.canvases else Sampler(dataset, seed)
    return Material(
        kind="arc",
        canvas=dataset.canvas,
        num_cells=dataset.canvas**2,
        vocabulary=VOCABULARY,
        sides=dataset.sides,
        ids=PuzzleIds(sampler.views.names),
        batch=sampler.batch,
        meta=arc_meta(dataset),
    )


def arc_meta(dataset: Dataset) -> dict[str, Any]:
    """Return what a bundle tells of the ARC tasks that it was trained on; leak rules (GL401) read `answers_of`."""
    return {
        "kind": "arc",
        "digest": dataset.digest,
        "version": dataset.version,
        "tasks": len(dataset.tasks),
        "augment": dataset.augment.model_dump(mode="json"),
        "answers_of": trained_answers(dataset.tasks),
    }


def with_earlier(meta: dict[str, Any], before: Artifact | None) -> dict[str, Any]:
    """Add the answers that the checkpoint behind a training had learnt; they are still in the weights."""
    if before is None:
        return meta
    earlier = answers_of(read_description(before.path)["meta"])
    return {**meta, "answers_of": {**earlier, **meta.get("answers_of", {})}} if earlier else meta


def _puzzles(artifact: Artifact, seed: int) -> Material:
    puzzles = load_puzzles(artifact.path)
    sampler = PuzzleSampler(puzzles, seed)
    return Material(
        kind=puzzles.kind,
        canvas=puzzles.size,
        num_cells=puzzles.size**2,
        vocabulary=puzzles.vocab,
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


def _sequences(artifact: Artifact) -> Material:
    spec = load_sequences(artifact.path)
    layout = token_layout(spec)
    if layout is None:
        raise StageError(
            f"{spec.kind} rows are numbers, not tokens, so no network here can be trained on them",
            "use parity, addition, copy or string_addition",
        )
    digest = sequences_digest(spec)
    return Material(
        kind=spec.kind,
        canvas=0,
        num_cells=layout.num_cells,
        vocabulary=layout.vocabulary,
        ids=PuzzleIds.of(()),
        batch=lambda step, batch_size: token_rows(spec, step, batch_size),
        meta={
            "kind": spec.kind,
            "digest": digest,
            "version": f"{spec.kind} {digest[:7]}",
            "spec": spec.model_dump(mode="json"),
        },
    )
