"""The contract between the executor and a stage: inputs in, one artifact folder out, everything else by context."""

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
    from gridloom.runtime.machine.ranks import Ranks


@dataclass(frozen=True, slots=True)
class StageContext:
    """All that a stage may use beside its node and inputs; stages read no globals."""

    run_id: str
    device: str
    """A torch device string: 'cpu', 'cuda:0'."""
    work: Path
    """Scratch folder of this stage's key; survives an interruption, removed after publishing."""
    out: Path
    """Folder to fill; published atomically when `run` returns."""
    base: Path
    """Folder that relative paths in the spec (data sources, local weights) start from."""
    ledger: LedgerWriter
    progress: Progress
    stop: StopSignal
    ranks: Ranks | None = None
    """Processes that train together, this one the first of them; None where this process is alone."""
    notes: dict[str, Any] = field(default_factory=dict)
    """A stage may leave figures here (peak memory, steps/s); the executor stores them with the stage row."""


class Stage(Protocol):
    """What runs the stages of a kind: constructed without arguments, run once; `StageKind.run` names it."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Fill `context.out` from `node.spec` and `inputs` (by the field of the spec that names each).

        Raises StageInterrupted after saving resumable state in `context.work` when `context.stop` is set;
        other GridloomErrors for the user's mistakes.
        """


NODES = {
    "arc": "gridloom.runtime.data.stages:BuildDataset",
    "arc_answers": "gridloom.runtime.data.stages:BuildAnswers",
    "maze": "gridloom.runtime.data.stages:BuildPuzzles",
    "sudoku": "gridloom.runtime.data.stages:BuildPuzzles",
    "parity": "gridloom.runtime.data.stages:BuildSequences",
    "addition": "gridloom.runtime.data.stages:BuildSequences",
    "copy": "gridloom.runtime.data.stages:BuildSequences",
    "sort": "gridloom.runtime.data.stages:BuildSequences",
    "logic": "gridloom.runtime.data.stages:BuildSequences",
    "string_addition": "gridloom.runtime.data.stages:BuildSequences",
    "vote": "gridloom.runtime.evaluation.vote:Vote",
    "count_votes": "gridloom.runtime.evaluation.count_votes:CountVotes",
}
"""Place of what runs a node that no entry of `stages` has the kind of: datasets, answers, halves of an evaluation."""


def load_stage(kind: str) -> Stage:
    """Construct what runs a node of this kind.

    Raises:
        PluginError: no installed package brings the kind, or the one that does cannot be loaded.
    """
    return cast(Stage, load_place(NODES.get(kind) or STAGES.get(kind).run)())
