"""Jobs and items: what a stage hands to workers, and the contract of the object that works on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gridloom.compiler.graph import StageNode
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact


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
