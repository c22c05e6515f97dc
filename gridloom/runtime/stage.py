"""The contract between the executor and a stage: inputs in, one artifact folder out, everything else by context."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gridloom.compiler.graph import StageNode
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import LedgerWriter


class ProgressTask(Protocol):
    """One bar: rate and ETA are the reporter's business."""

    def advance(self, amount: float = 1, **fields: Any) -> None:
        """Move on by `amount`; `fields` such as loss=1.2 or accepted=6 are shown beside the bar."""


class Progress(Protocol):
    """Reports long work: a rich bar on a terminal, plain lines elsewhere, nothing with --quiet."""

    def task(
        self, label: str, total: float | None, unit: str = "it", done: float = 0
    ) -> AbstractContextManager[ProgressTask]:
        """Open a bar; `done` is where a resumed piece of work starts."""

    def say(self, text: str) -> None:
        """One plain line, kept above the bars."""

    def show(self, renderable: Any) -> None:
        """A rich renderable, kept above the bars; a plain-text form elsewhere."""


class StopSignal(Protocol):
    """Set by SIGTERM, SIGINT or a walltime limit; stages look between units of work, save, raise StageInterrupted."""

    def __bool__(self) -> bool: ...

    @property
    def reason(self) -> str:
        """Why: 'SIGINT', 'SIGTERM', 'walltime 2:00:00'."""


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
    notes: dict[str, Any] = field(default_factory=dict)
    """A stage may leave figures here (peak memory, steps/s); the executor stores them with the stage row."""


class Stage(Protocol):
    """A stage kind: constructed without arguments, run once; registered in the entry point group `gridloom.stages`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Fill `context.out` from `node.spec` and `inputs` (by the field of the spec that names each).

        Raises StageInterrupted after saving resumable state in `context.work` when `context.stop` is set;
        other GridloomErrors for the user's mistakes.
        """
