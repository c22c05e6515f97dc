"""What compiling needs to know about the world outside the spec, as a protocol, so that passes stay pure.

`gridloom.runtime.planning.facts.LocalFacts` reads it from disk without torch; tests pass a `StaticFacts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from gridloom.errors import DataError, ModelError
from gridloom.runtime.models.kind import RowShape
from gridloom.runtime.models.language.facts import LlamaFacts
from gridloom.runtime.models.language.spec import LlamaModel
from gridloom.specs.base import DataSpec
from gridloom.specs.data import VOCABULARY, ArcData


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Facts of one `data` entry. Digests cover content only: no paths, names or times."""

    digest: str
    """sha256 over the selected tasks without their held-out answers."""
    answers_digest: str
    """sha256 over the held-out answers."""
    num_tasks: int
    num_held_out: int
    """Tasks with test inputs to answer; test puzzles of mazes and sudokus."""
    max_side: int
    """Largest side of any visible grid."""
    canvas: int
    """Side of the token canvas after resolving `auto`; 0 for sequences."""
    subsets: tuple[str, ...]
    """Subsets that the source has."""
    num_check_demos: int = 0
    """Demonstrations held back from training, over all tasks."""
    num_demos: int = 0
    task_ids: tuple[str, ...] = ()
    num_train_pairs: int = 0
    """Pairs that training may see, over all tasks; 0 where prompts were not measured."""
    joint_prompt: tuple[float, float] = (0.0, 0.0)
    """Mean demonstrations and mean cells of all grids in a joint stage's first prompt, over training pairs."""
    solve_prompt: tuple[float, float] = (0.0, 0.0)
    """The same of a solve stage's first prompt, over held-out test inputs."""
    answer_cells: float = 0.0
    """Mean cells of a training pair's output."""
    side_shares: tuple[tuple[int, float], ...] = ()
    """Share of the pairs that training may see on each canvas; empty where all lie on `canvas`."""
    vocabulary: int = VOCABULARY
    """Tokens there are, PAD included."""
    num_unanswered: int = 0
    """Of those, tasks whose right answers the files do not have."""
    length: int | None = None
    """Tokens of a row where they are no square canvas; 0 for rows that are no tokens."""

    vectors: tuple[int, ...] = ()
    """(time steps T, features F, vocabulary V) of the rows as vectors; empty where there are none."""

    def rows(self, reads: Sequence[str]) -> RowShape | None:
        """Return the rows in the first form of `reads` that the data has: 'tokens', 'vectors'; None without one."""
        for form in reads:
            if form == "tokens" and self.num_cells:
                return RowShape(self.canvas, self.num_cells, self.vocabulary)
            if form == "vectors" and self.vectors:
                steps, features, vocabulary = self.vectors
                return RowShape(0, steps, vocabulary, features)
        return None

    @property
    def num_cells(self) -> int:
        """Tokens of a row."""
        return self.canvas**2 if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """Facts of a checkpoint that is given by its folder, read without its weights."""

    digest: str
    """sha256 of its description, which holds the hash of every file."""
    network: str
    """Kind of the network."""
    hidden_size: int
    data_kind: str
    """Kind of the data it was trained on."""
    canvas: int
    """Side of the token canvas; 0 for sequences."""
    num_cells: int
    vocabulary: int
    has_adapters: bool = False
    """Whether it holds a text_to_latent adapter."""
    positions: str = "rope"
    """Position encoding of the network."""
    any_canvas: bool = False
    """Whether it runs on square canvases of any size."""
    network_spec: Mapping[str, Any] | None = None
    """The network's section as its bundle has it, for what it costs; None where nobody tells."""
    answers_of: tuple[tuple[str, str], ...] = ()
    """(short key, id) of each task whose test answers it was trained on, as far as its bundle tells."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """A task as leak checks see it."""

    task_id: str
    subset: str
    held_out: bool
    key: str
    """Equal for tasks whose demonstrations are equal up to rotation, reflection and colours."""


def short_key(key: str) -> str:
    """Return the part of a task's key that a bundle keeps."""
    return key[:16]


class Facts(Protocol):
    """Reads facts; raises DataError or ModelError, which the check pass turns into diagnostics at the right span."""

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Facts of a dataset; `base` is the folder that relative paths start from."""

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Facts of a language model."""

    def checkpoint(self, path: str, base: str) -> CheckpointFacts:
        """Facts of the checkpoint in a folder."""

    def task_keys(self, spec: DataSpec, base: str) -> tuple[TaskKey, ...]:
        """Every task of a dataset by content; asked for only where two subsets or datasets could share tasks."""

    def has_package(self, name: str) -> bool:
        """Whether an optional Python package can be imported on this machine."""


@dataclass(frozen=True, slots=True)
class StaticFacts:
    """Facts given beforehand: by the `source` of a dataset and the `weights` of a model. For tests and tools.

    `canvas` in the facts is what `auto` resolves to; a spec that gives a number gets that number. A spec that holds
    nothing out, or keeps no demonstration, gets counts of 0.
    """

    datasets: Mapping[str, DataFacts | DataError] = field(default_factory=dict)
    llamas: Mapping[str, LlamaFacts | ModelError] = field(default_factory=dict)
    tasks: Mapping[str, tuple[TaskKey, ...]] = field(default_factory=dict)
    """Tasks of a source; `held_out` is set from the spec that asks."""
    checkpoints: Mapping[str, CheckpointFacts | ModelError] = field(default_factory=dict)
    """By path."""
    absent: frozenset[str] = frozenset()
    """Optional packages that are not installed."""

    def has_package(self, name: str) -> bool:
        """Whether `absent` does not name it."""
        return name not in self.absent

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Return the facts of `spec.source`. Raises DataError for a source it was not given."""
        source = getattr(spec, "source", None) or spec.kind
        found = self.datasets.get(source)
        if found is None:
            raise DataError(f"there is no dataset at '{source}'")
        if isinstance(found, DataError):
            raise found
        if not isinstance(spec, ArcData):
            return found
        return replace(
            found,
            canvas=found.canvas if spec.canvas == "auto" else spec.canvas,
            num_held_out=found.num_held_out if spec.holdout else 0,
            num_check_demos=found.num_check_demos if spec.check_demos else 0,
        )

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Return the facts of `spec.weights`. Raises ModelError for weights it was not given."""
        found = self.llamas.get(spec.weights)
        if found is None:
            raise ModelError(f"there is no model '{spec.weights}'")
        if isinstance(found, ModelError):
            raise found
        return found

    def checkpoint(self, path: str, base: str) -> CheckpointFacts:
        """Return the facts of a path. Raises ModelError for one it was not given."""
        found = self.checkpoints.get(path)
        if found is None:
            raise ModelError(f"there is no checkpoint at '{path}'")
        if isinstance(found, ModelError):
            raise found
        return found

    def task_keys(self, spec: DataSpec, base: str) -> tuple[TaskKey, ...]:
        """Return the tasks of `spec.source` that are in the subsets it reads."""
        if not isinstance(spec, ArcData):
            return ()
        found = self.tasks.get(spec.source, ())
        return tuple(replace(t, held_out=t.subset in spec.holdout) for t in found if t.subset in spec.subsets)
