"""Contract between the executor and a stage: input artifacts, one output folder, and a context for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


SPLIT = ("solve", "vote")
"""Kinds of nodes that hand out items to workers."""


class Crew(Protocol):
    """Workers of a run, as a stage sees them (`cluster.crew`)."""

    @property
    def num_workers(self) -> int:
        """Number of workers, started or not."""

    @property
    def shares_disk(self) -> bool:
        """Whether every worker sees the workspace of the driver."""

    def run(
        self,
        job: Job,
        items: Sequence[str],
        value: Callable[[str, int], Mapping[str, Any]],
        take: Callable[[str, Mapping[str, Any]], None],
        stop: StopSignal,
    ) -> list[str]:
        """Have every item done by some worker; return the items that were set aside, in order.

        Args:
            value: function (item, number of workers lost with it) -> what the worker gets.
            take: called in this thread with each item and its result.
            stop: when it is set, workers save and stop; the call returns when all have.

        Raises GridloomError: an item failed, as in the lone run, or no worker can be started.
        """


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


class StageWorker(Protocol):
    """Worker's half of a stage: holds the models of a job, and does its items."""

    slots: int
    """Number of items that it does at once; their model calls share batches."""

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Do one item and return its result as JSON values.

        Raises StageInterrupted after saving its state when the context's stop signal is set; GridloomErrors for the
        user's mistakes.
        """


class SplitStage(Protocol):
    """Half of a stage class that workers load: the place in `Job.place`, constructed without arguments."""

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> StageWorker:
        """Load what the items of the job need, once; `shared` is the job's own data."""


@dataclass(frozen=True, slots=True)
class Job:
    """One stage's work for workers."""

    place: str
    """Import path `module:class` of the `SplitStage`."""
    node: StageNode
    inputs: Mapping[str, Artifact]
    run_id: str
    device: str
    base: Path
    work: Path
    shared: Mapping[str, Any] = field(default_factory=dict)
    """Data that every item needs, as JSON values."""
    alone: bool = False
    """Whether an item takes a whole worker, as a training does."""

    @classmethod
    def of(
        cls,
        place: str,
        node: StageNode,
        inputs: Mapping[str, Artifact],
        context: StageContext,
        shared: Mapping[str, Any] | None = None,
        *,
        alone: bool = False,
    ) -> Job:
        """Return the job of a stage that runs in `context`."""
        where = (context.run_id, context.device, context.base, context.work)
        return cls(place, node, inputs, *where, {} if shared is None else shared, alone)

    def message(self, number: int) -> dict[str, Any]:
        """Return the message that begins the job at a worker."""
        return {
            "do": "begin",
            "job": number,
            "place": self.place,
            "node": self.node.model_dump(mode="json"),
            "inputs": {name: artifact.key for name, artifact in self.inputs.items()},
            "run_id": self.run_id,
            "device": self.device,
            "base": str(self.base),
            "work": str(self.work),
            "shared": dict(self.shared),
        }


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
