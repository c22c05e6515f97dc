"""Contract between the executor and a stage: input artifacts, one output folder, and a context for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from gridloom.compiler.graph import StageNode
from gridloom.plugins import load_place
from gridloom.progress import Progress, StopSignal
from gridloom.specs.kinds import STAGES
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter

if TYPE_CHECKING:
    from gridloom.runtime.cluster.crew import Crew
    from gridloom.runtime.machine.ranks import Ranks


@dataclass(frozen=True, slots=True)
class StageContext:
    """Everything that a stage may use besides its node and inputs; stages read no globals."""

    run_id: str
    device: str
    """Torch device string: 'cpu', 'cuda:0'."""
    work: Path
    """Scratch folder of this stage's key; survives an interruption, removed after publishing."""
    out: Path
    """Output folder; published atomically when `run` returns."""
    base: Path
    """Base folder of relative paths in the spec (data sources, local weights)."""
    ledger: LedgerWriter
    progress: Progress
    stop: StopSignal
    ranks: Ranks | None = None
    """Processes that train together, this one the first of them; None where this process is alone."""
    crew: Crew | None = None
    """Workers that a stage may hand items to; None where this process does all."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Figures that a stage records (peak memory, steps/s); the executor stores them in the stage's ledger row."""


class Stage(Protocol):
    """Runner of the stages of one kind, constructed without arguments and run once; `StageKind.run` names the class."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Fill `context.out` from `node.spec` and `inputs` (by the field of the spec that names each).

        Raises StageInterrupted after saving resumable state in `context.work` when `context.stop` is set;
        other GridloomErrors for the user's mistakes.
        """


NODES = {
    "arc": "gridloom.runtime.data.stages:BuildDataset",
    "arc_answers": "gridloom.runtime.data.stages:BuildAnswers",
    "programs": "gridloom.solvers.stages.program_pairs:BuildPairs",
    "programs_answers": "gridloom.runtime.data.stages:BuildAnswers",
    "maze": "gridloom.runtime.data.stages:BuildPuzzles",
    "sudoku": "gridloom.runtime.data.stages:BuildPuzzles",
    "parity": "gridloom.runtime.data.stages:BuildSequences",
    "addition": "gridloom.runtime.data.stages:BuildSequences",
    "copy": "gridloom.runtime.data.stages:BuildSequences",
    "sort": "gridloom.runtime.data.stages:BuildSequences",
    "logic": "gridloom.runtime.data.stages:BuildSequences",
    "string_addition": "gridloom.runtime.data.stages:BuildSequences",
    "recall": "gridloom.runtime.data.stages:BuildSequences",
    "star_graph": "gridloom.runtime.data.stages:BuildSequences",
    "graph_search": "gridloom.runtime.data.stages:BuildSequences",
    "stream": "gridloom.runtime.data.stages:BuildRows",
    "prebuilt": "gridloom.runtime.data.stages:BuildRows",
    "vote": "gridloom.runtime.evaluation.vote:Vote",
    "count_votes": "gridloom.runtime.evaluation.count_votes:CountVotes",
}
"""Import path of the runner of each node kind that specs do not list in `stages`: data, answers, evaluation halves."""


def load_stage(kind: str) -> Stage:
    """Construct the runner of a node kind.

    Raises:
        PluginError: no installed package provides the kind, or the package that does cannot be loaded.
    """
    return cast(Stage, load_place(NODES.get(kind) or STAGES.get(kind).run)())
