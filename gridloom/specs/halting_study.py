"""The stage `halting_study`: what a recurrent network gains by its steps, and by choosing their number itself."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from gridloom.specs.base import ArtifactType, Operational, Ref, StageSpec
from gridloom.specs.stages import CheckpointName


class HaltingStudyStage(StageSpec):
    """Measure a recurrent network's accuracy and cost against its steps, and its halting against fixed steps.

    Test mazes, sudokus and rows of sequence tasks are answered with every allowed number of steps, by the network's own
    halting and without it. The stage also measures how steps follow the difficulty of a row, and how well halting
    logit, confidence and residual separate right answers from wrong ones. Rows of the ledger's table `halting_study`.
    """

    version: ClassVar[int] = 1
    produces: ClassVar[ArtifactType] = "evaluation"
    kind: Literal["halting_study"] = "halting_study"
    with_: CheckpointName = Field(alias="with")
    """Checkpoint of the network to study."""
    data: Annotated[str, Ref(artifacts=("dataset", "puzzles", "sequences"))]
    """Mazes, sudokus or a sequence task, whose test rows are answered."""
    steps: Literal["max"] | tuple[PositiveInt, ...] = "max"
    """Allowed steps to compare: ACT steps, or the step limit of a network that ponders. `max` takes 1, 2, ... up to the
    network's `halt_max_steps`; numbers above that are possible."""
    limit: PositiveInt | None = None
    """At most this many test rows, the first; all puzzles when absent, 1,000 rows of the endless sequences."""
    bins: Annotated[int, Field(ge=2, le=100)] = 10
    """Bins of equal width in the reliability diagrams."""
    batch_size: PositiveInt = 256
    """Rows per batch. Rounding depends on the batch size, so the key covers it."""
    plots: Annotated[bool, Operational()] = True
    """Draw the figures as PNG and SVG, which needs `pip install 'gridloom[plots]'`."""
