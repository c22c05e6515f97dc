"""Training data of a network: endless stream of rows, their shape and vocabulary, and the names of their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from gridloom.runtime.checkpoints.description import answers_of, pairs_of, read_description, validated_on
from gridloom.runtime.data.arc.canonical import trained_answers
from gridloom.runtime.data.arc.content_keys import trained_pairs
from gridloom.runtime.data.arc.dataset import Dataset, load_dataset
from gridloom.runtime.data.arc.packing.packed_sampler import PackedSampler, sampler_of
from gridloom.runtime.data.arc.puzzle_ids import PuzzleIds
from gridloom.runtime.data.batch import Batch
from gridloom.runtime.data.puzzles.puzzle_set import load_puzzles
from gridloom.runtime.data.puzzles.sampler import PuzzleSampler
from gridloom.runtime.data.sequences.artifact import load_sequences, sequences_digest
from gridloom.runtime.models.kind import MODELS, RowShape
from gridloom.runtime.models.network import Network
from gridloom.runtime.models.network_spec import NetworkSpec
from gridloom.runtime.models.sequence_rows import most_rows, sequence_rows
from gridloom.runtime.training.held_apart import TasksApart, puzzles_apart, tasks_apart
from gridloom.runtime.training.validate import RowValidator, TaskValidator, ValidationRows, Validator
from gridloom.specs.data import VOCABULARY
from gridloom.specs.validation import DEFAULT_ROWS, MAZE_METRICS, TEST, VALIDATION, Validation
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
    packed: PackedSampler | None = None
    """Rows with their shapes, by number, where rows are packed and `batch` is not used; else None."""
    validator: Callable[[Network], Validator] | None = None
    """Rows held apart from `batch`, for a network; None without validation."""

    def network(self, spec: NetworkSpec, generator: torch.Generator | None = None) -> Network:
        """Build a network for these rows; several ids get an embedding row per task beside the row per id."""
        network: Network = (
            MODELS.get(spec.kind)
            .builder()
            .for_rows(spec, self.rows, self.ids, per_task=len(self.ids) > 1, generator=generator)
        )
        network.take_canvases(self.sides or (self.rows.canvas,))
        if self.packed is not None:
            network.take_packed()
        return network


def load_material(
    artifact: Artifact, seed: int, reads: Sequence[str] = ("tokens",), validation: Validation | None = None
) -> Material:
    """Open a dataset artifact of any kind for training.

    Args:
        reads: kinds of rows that the network accepts, preferred first: 'tokens', 'vectors'.
        validation: rows to hold apart.

    Raises:
        DataError: the artifact is damaged or empty.
        StageError: the data has no rows of a kind that the network accepts, or none that can be held apart.
    """
    if artifact.type == "puzzles":
        return _puzzles(artifact, seed, validation)
    if artifact.type == "sequences":
        return _sequences(artifact, reads, validation)
    whole = load_dataset(artifact.path)
    apart = None if validation is None else tasks_apart(whole, validation, seed)
    dataset = whole if apart is None else apart.dataset
    sampler = sampler_of(dataset, seed)
    ids = PuzzleIds(sampler.views.names)
    validator: Callable[[Network], Validator] | None = None
    if apart is not None and validation is not None:
        validator = partial(_task_validator, apart, ids, validation)
    return Material(
        kind="arc",
        rows=RowShape(dataset.canvas, dataset.canvas**2, VOCABULARY),
        sides=dataset.sides,
        ids=ids,
        batch=sampler.batch,
        packed=sampler if isinstance(sampler, PackedSampler) else None,
        # weights chosen by answers depend on them, so the leak rule covers those that were held apart too
        meta=arc_meta(whole),
        validator=validator,
    )


def _task_validator(apart: TasksApart, ids: PuzzleIds, wanted: Validation, network: Network) -> Validator:
    return TaskValidator(apart, network, ids, wanted)


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
    """Add answers and pairs that the initial checkpoint was trained on or chosen by; its weights may encode them."""
    if before is None:
        return meta
    earlier = read_description(before.path)["meta"]
    answers, pairs, chosen_by = answers_of(earlier), pairs_of(earlier), validated_on(earlier)
    if answers:
        meta = {**meta, "answers_of": {**answers, **meta.get("answers_of", {})}}
    if pairs:
        ours = meta.get("pairs_of", {})
        both = {task: list(dict.fromkeys((*pairs.get(task, ()), *ours.get(task, ())))) for task in {**pairs, **ours}}
        meta = {**meta, "pairs_of": both}
    return {**meta, "validated_on": sorted({*chosen_by, *meta.get("validated_on", ())})} if chosen_by else meta


def _puzzles(artifact: Artifact, seed: int, validation: Validation | None) -> Material:
    whole = load_puzzles(artifact.path)
    apart = None if validation is None else puzzles_apart(whole, validation, seed)
    puzzles = whole if apart is None else apart.puzzles
    sampler = PuzzleSampler(puzzles, seed)
    validator: Callable[[Network], Validator] | None = None
    if apart is not None and validation is not None:
        mazes = puzzles.kind == "maze"
        rows = RowValidator(
            lambda first, end: ValidationRows(apart.inputs[first:end], apart.labels[first:end]),
            len(apart.inputs),
            {"sudoku": "sudokus", "maze": "mazes"}.get(puzzles.kind, "puzzles"),
            validation,
            ("exact", "cell_accuracy", "open_cell_accuracy", "halting_accuracy", *(MAZE_METRICS if mazes else ())),
            puzzles.kind,
        )
        validator = lambda network: rows  # noqa: E731
    by_test = {"validated_on": [puzzles.digest]} if validation is not None and validation.split == TEST else {}
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
            **by_test,
        },
        validator=validator,
    )


def _sequences(artifact: Artifact, reads: Sequence[str], validation: Validation | None) -> Material:
    spec = load_sequences(artifact.path)
    digest = sequences_digest(spec)
    rows, batch = sequence_rows(spec, reads)
    validator: Callable[[Network], Validator] | None = None
    if validation is not None:
        stream = validation.split or VALIDATION
        total = most_rows(spec, validation.limit or DEFAULT_ROWS, stream)
        drawn = sequence_rows(spec, reads, stream)[1](0, total)

        def tested(first: int, end: int) -> ValidationRows:
            valid = None if drawn.valid is None else drawn.valid[first:end]
            return ValidationRows(drawn.inputs[first:end], drawn.labels[first:end], valid)

        rows_apart = RowValidator(tested, total, f"{spec.kind} rows of the {stream} stream", validation)
        validator = lambda network: rows_apart  # noqa: E731
    by_test = {"validated_on": [digest]} if validation is not None and validation.split == TEST else {}
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
            **by_test,
        },
        validator=validator,
    )
