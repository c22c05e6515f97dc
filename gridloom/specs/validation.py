"""Validation in training: figures over held-apart rows of the training data, and selection of weights by them."""

from collections.abc import Callable
from functools import partial
from operator import eq
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from gridloom.specs.base import SpecModel

Metric = Literal[
    "pass@1", "pass@2", "exact", "cell_accuracy", "open_cell_accuracy", "focus_f1", "valid_path", "shortest"
]
ARC_METRICS = ("pass@1", "pass@2", "cell_accuracy")
ROW_METRICS = ("exact", "cell_accuracy")
MAZE_METRICS = ("focus_precision", "focus_recall", "focus_f1", "valid_path", "shortest")
"""Figures of mazes alone: marked path cells, and whole paths."""
DEFAULT_VIEWS = 8
DEFAULT_ROWS = 1000
"""Sequences that a validation answers; their streams are endless."""
TEST = "test"
VALIDATION = "validation"
"""Stream of sequences that no evaluation reads."""


def default_of(default: object) -> Callable[[object], bool]:
    """Return whether a value is `default`, for fields that graphs of earlier specs do not have."""
    return partial(eq, default)


def absent(value: object) -> bool:
    """Return whether a field is not written in a graph: graphs of specs without it keep their bytes."""
    return value is None


class Validation(SpecModel):
    """Rows of the training data that are held apart, and answered now and then by the weights that would be published.

    Held-out answers are not read: of ARC tasks the known answers of test inputs are held apart, of puzzles training
    puzzles or the test split, of sequences rows of the validation stream.
    """

    every: PositiveInt = 100
    """Optimizer steps between validations; the last step is validated too."""
    split: str | None = None
    """ARC: a subset that is not held out, whose test pairs are held apart. Mazes, sudokus: `test`. Sequences:
    `validation`, a stream of its own, or `test`, by which no evaluation can then be made."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of the tasks with known test pairs, or of the training puzzles, drawn by the stage's seed and held apart.
    Where no task has a known test pair, the last demonstration of tasks with three or more is held apart."""
    limit: PositiveInt | None = None
    """At most this many tasks, puzzles or sequences; all when absent, of the endless sequences 1,000."""
    views: PositiveInt | None = None
    """ARC only: views that vote on a test input, including the identity; 8 when absent."""
    metric: Metric | None = None
    """Metric that compares states, with cell accuracy between equals: pass@2 for ARC, exact rows otherwise when
    absent. Mazes and sudokus also have open_cell_accuracy; mazes focus_f1, valid_path and shortest."""
    publish: Literal["best", "last"] = "best"
    """Weights that are published: those of the best validation, or the last."""
    act_steps: PositiveInt | None = None
    """ACT steps of every row; the network's `halt_max_steps` when absent, in shallow phases of `depth` too."""
    batch_size: PositiveInt = 256
    """Rows per batch."""

    def metric_for(self, kind: str) -> str:
        """Return the metric on data of a kind: arc, maze, sudoku, parity, ..."""
        return self.metric or ("pass@2" if kind == "arc" else "exact")

    @property
    def num_views(self) -> int:
        """Number of views that vote on a test input of an ARC task."""
        return self.views or DEFAULT_VIEWS
