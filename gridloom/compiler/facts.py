"""Facts from outside the spec that compiling needs, behind a protocol, so that passes stay pure.

`gridloom.runtime.planning.facts.LocalFacts` reads the facts from disk without torch; tests pass a `StaticFacts`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

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
    """Number of tasks with test inputs to answer; of test puzzles for mazes and sudokus."""
    max_side: int
    """Largest side of any visible grid, in cells."""
    canvas: int
    """Side of the token canvas in cells after resolving `auto`; 0 for sequences."""
    subsets: tuple[str, ...]
    """Subsets of the source."""
    num_check_demos: int = 0
    """Demonstrations held back from training, over all tasks."""
    num_demos: int = 0
    task_ids: tuple[str, ...] = ()
    num_train_pairs: int = 0
    """Pairs that training may see, over all tasks; 0 where prompts were not measured."""
    joint_prompt: tuple[float, float] = (0.0, 0.0)
    """Mean demonstrations and mean cells of all grids in a joint stage's first prompt, over training pairs."""
    solve_prompt: tuple[float, float] = (0.0, 0.0)
    """Mean demonstrations and mean cells of all grids in a solve stage's first prompt, over held-out test inputs."""
    answer_cells: float = 0.0
    """Mean cells of a training pair's output."""
    side_shares: tuple[tuple[int, float], ...] = ()
    """(side, share of the training pairs) of each canvas; empty where all pairs use `canvas`."""
    row_cells: tuple[tuple[int, float], ...] = ()
    """(cells, share of the training pairs) of each size of a packed row; empty where rows are canvases."""
    vocabulary: int = VOCABULARY
    """Size of the token vocabulary, PAD included."""
    num_unanswered: int = 0
    """Number of held-out tasks whose answers are not in the files."""
    length: int | None = None
    """Tokens per row where rows are not a square canvas; 0 for rows of numbers; None for a canvas."""

    vectors: tuple[int, ...] = ()
    """(time steps T, features F, vocabulary V, answers K, 1 if they belong to the whole row) of the rows as vectors;
    empty where there are none."""

    def rows(self, reads: Sequence[str]) -> RowShape | None:
        """Return the rows in the first form of `reads` that the data has: 'tokens', 'vectors'; None without one."""
        for form in reads:
            if form == "tokens" and self.num_cells:
                return RowShape(self.canvas, self.num_cells, self.vocabulary)
            if form == "vectors" and self.vectors:
                steps, features, vocabulary, answers, whole = self.vectors
                return RowShape(0, steps, vocabulary, features, answers, bool(whole))
        return None

    @property
    def num_cells(self) -> int:
        """Tokens per row."""
        return self.canvas**2 if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class CheckpointFacts:
    """Facts of a checkpoint given by its folder, read without its weights."""

    digest: str
    """sha256 of the bundle's description, which holds the hash of every file."""
    network: str
    """Kind of the network."""
    hidden_size: int
    data_kind: str
    """Kind of the training data."""
    canvas: int
    """Side of the token canvas; 0 for sequences."""
    num_cells: int
    vocabulary: int
    has_adapters: bool = False
    """Whether the checkpoint holds a text_to_latent adapter."""
    positions: str = "rope"
    """Position encoding of the network."""
    any_canvas: bool = False
    """Whether the network runs on square canvases of any size."""
    network_spec: Mapping[str, Any] | None = None
    """Spec of the network in the bundle, for the cost estimate; None where the bundle holds none."""
    answers_of: tuple[tuple[str, str], ...] = ()
    """(short key, id) of each task whose test answers were trained on, as recorded in the bundle."""
    validated_on: tuple[str, ...] = ()
    """Digests of the puzzle sets whose test split chose the weights, as recorded in the bundle."""
    trained_tasks: tuple[TaskKey, ...] = ()
    """Tasks that were trained on, with the pairs that training read, as recorded in the bundle."""
    views_of: tuple[tuple[str, int], ...] = ()
    """(task id, number of views with a puzzle id, the identity included) of each task that has puzzle ids."""
    row_form: tuple[int, int, int] = (0, 1, 0)
    """Features F of a vector, answers K, 1 if they belong to the whole row, of the rows it was trained on."""

    @property
    def rows(self) -> RowShape:
        """Shape of the rows that the checkpoint was trained on."""
        features, answers, whole = self.row_form
        return RowShape(self.canvas, self.num_cells, self.vocabulary, features, answers, bool(whole))


PairRole = Literal["demo", "check", "known", "held"]
"""Demonstration, demonstration that training does not read, test pair that it reads, held-out test pair."""
TRAINED_ROLES = ("demo", "known")
"""Roles of the pairs that training reads."""
KEY_DIGITS = 12
"""Hexadecimal digits of each key of a pair: 48 bits, by chance equal once in 10^8 comparisons of two datasets."""


@dataclass(frozen=True, slots=True)
class PairKey:
    """Input and output grid in the leak checks, by content: 12 hexadecimal digits of a sha256 each.

    A test input without an answer has an empty `pair`, `turned` and `cells`.
    """

    role: PairRole
    pair: str
    """Equal for pairs that are equal up to rotation, reflection and any exchange of the ten colours."""
    turned: str
    """Equal for pairs that are equal up to rotation and reflection."""
    cells: str
    """Equal for pairs that are equal cell by cell."""
    input: str
    """As `pair`, of the input alone."""
    input_cells: str
    """As `cells`, of the input alone."""
    small: bool = False
    """Whether the grids of two colours or more have at most nine cells in all, so that `pair` can agree by chance."""
    small_input: bool = False
    """Whether the input has at most nine cells."""
    plain_input: bool = False
    """Whether the input has a single colour."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """A task in the leak checks, identified by content."""

    task_id: str
    subset: str
    held_out: bool
    key: str
    """Key that is equal for tasks whose demonstrations are equal up to rotation, reflection and colours."""
    pairs: tuple[PairKey, ...] = ()
    """Demonstrations, then test pairs; empty where the facts have none."""


def short_key(key: str) -> str:
    """Return the part of a task's key that bundles store."""
    return key[:16]


def pack_pair(pair: PairKey) -> str:
    """Return the keys of a pair as a bundle stores them: base64 of their 30 bytes."""
    return b64encode(bytes.fromhex(pair.pair + pair.turned + pair.cells + pair.input + pair.input_cells)).decode()


def unpack_pair(packed: str) -> PairKey:
    """Return the keys of a pair that training read. Raises ValueError."""
    digits = b64decode(packed, validate=True).hex()
    if len(digits) != 5 * KEY_DIGITS:
        raise ValueError(f"not the keys of a pair: {packed!r}")
    pair, turned, cells, given, given_cells = (digits[i : i + KEY_DIGITS] for i in range(0, len(digits), KEY_DIGITS))
    return PairKey("known", pair, turned, cells, given, given_cells)


class Facts(Protocol):
    """Source of facts; raises DataError or ModelError, which the check pass reports at the position in the spec."""

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Return the facts of a dataset; relative paths start from the folder `base`."""

    def subsets(self, source: str, base: str) -> tuple[str, ...]:
        """Return the names of the subsets of a source of ARC tasks, without reading its tasks."""

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Return the facts of a language model."""

    def checkpoint(self, path: str, base: str) -> CheckpointFacts:
        """Return the facts of the checkpoint in a folder."""

    def task_keys(self, spec: DataSpec, base: str) -> tuple[TaskKey, ...]:
        """Return every task of a dataset by content; called only where two subsets or datasets could share tasks."""

    def has_package(self, name: str) -> bool:
        """Return whether an optional Python package is installed on this machine."""


@dataclass(frozen=True, slots=True)
class StaticFacts:
    """Facts from memory, by the `source` of a dataset and the `weights` of a model; for tests and tools.

    `canvas` in the facts is the value of `auto`; a number in the spec replaces it. Counts are 0 for a spec without
    held-out subsets or without kept demonstrations.
    """

    datasets: Mapping[str, DataFacts | DataError] = field(default_factory=dict)
    llamas: Mapping[str, LlamaFacts | ModelError] = field(default_factory=dict)
    tasks: Mapping[str, tuple[TaskKey, ...]] = field(default_factory=dict)
    """Tasks by source; `held_out` is set from the spec of the call."""
    checkpoints: Mapping[str, CheckpointFacts | ModelError] = field(default_factory=dict)
    """Facts of checkpoints by path."""
    absent: frozenset[str] = frozenset()
    """Optional packages that are not installed."""

    def has_package(self, name: str) -> bool:
        """Return whether the package is not in `absent`."""
        return name not in self.absent

    def data(self, spec: DataSpec, base: str) -> DataFacts:
        """Return the facts of `spec.source`. Raises DataError for an unknown source."""
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

    def subsets(self, source: str, base: str) -> tuple[str, ...]:
        """Return the subsets in the facts of a source. Raises DataError for an unknown source."""
        found = self.datasets.get(source)
        if not isinstance(found, DataFacts):
            raise found or DataError(f"there is no dataset at '{source}'")
        return found.subsets

    def llama(self, spec: LlamaModel, base: str) -> LlamaFacts:
        """Return the facts of `spec.weights`. Raises ModelError for unknown weights."""
        found = self.llamas.get(spec.weights)
        if found is None:
            raise ModelError(f"there is no model '{spec.weights}'")
        if isinstance(found, ModelError):
            raise found
        return found

    def checkpoint(self, path: str, base: str) -> CheckpointFacts:
        """Return the facts of a path. Raises ModelError for an unknown path."""
        found = self.checkpoints.get(path)
        if found is None:
            raise ModelError(f"there is no checkpoint at '{path}'")
        if isinstance(found, ModelError):
            raise found
        return found

    def task_keys(self, spec: DataSpec, base: str) -> tuple[TaskKey, ...]:
        """Return the tasks of `spec.source` in the subsets of `spec`."""
        if not isinstance(spec, ArcData):
            return ()
        found = self.tasks.get(spec.source, ())
        return tuple(replace(t, held_out=t.subset in spec.holdout) for t in found if t.subset in spec.subsets)
