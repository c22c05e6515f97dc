"""What the loop's nodes need from the models, as protocols: the real parts and the shipped fakes both fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.hub import Desk, Hub
from gridloom.solvers.types import FinishedAttempt, Plan, Proposal, Reasoning
from gridloom.specs.solver import Solver

if TYPE_CHECKING:
    from gridloom.runtime.checkpoints.bundle import Bundle


class Reasoner(Protocol):
    """Runs the LLaMA."""

    @property
    def model(self) -> str:
        """The model's name, as the ledger shows it."""

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt of an attempt: demonstrations, test input `plan.focus`, what became of earlier attempts."""

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer it, with the latent prefix of the attempt before where there is one."""


@runtime_checkable
class Proposer(Protocol):
    """Proposes grids for the test inputs of a task. A `ProposerKind` names the function that makes one of a `Loaded`.

    - Equal arguments give equal bits on the machine that `Proposal.geometry` describes, whatever else is under way:
      replays compare `Proposal.digest`, a sha256 over what was computed. `geometry` begins with
      `gridloom.solvers.parts.runners.machine(device)`.
    - One proposer serves all tasks of a stage, several at once in one thread; between awaits the others wait. It keeps
      nothing of one task for another.
    - It needs no LLaMA, and reads no text: where `with` brings one, the loop adds the grid that it wrote to the
      proposal, and hands its latent on. A proposer that has no use for latents ignores them.
    - Each `Candidate` bears the proposer's name as its `source`, so that proposals of several can stand in one attempt.
    """

    @property
    def act_steps(self) -> int:
        """ACT steps where a plan names none; 0 without a recursive network."""

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the views, beside the identity, that a plan may ask for; empty for a proposer without views."""

    def adapt(self, latent: bytes) -> dict[str, Any] | None:
        """Map a latent, fp16 bytes, to the proposer's own space.

        Return what is recorded of it, `sha256` and `rms` of the mapped values; None where latents are ignored.
        """

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Return ranked candidates for each test input, and for each check demonstration (`task.check`).

        Args:
            latent: the LLaMA's state in this attempt, fp16 bytes; None without a LLaMA or an adapter that reads one.
        """


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the `with` of a stage names, loaded once: all that a proposer is made from."""

    settings: Solver
    device: str
    """Torch device string."""
    hub: Hub
    """Where calls of concurrent tasks share batches; a proposer with a model of its own opens a `Desk` there."""
    source: str
    """What messages call it: the checkpoint's folder, or the language model's weights."""
    bundle: Bundle | None = None
    """The checkpoint; None where `with` names a language model."""
    trm_desk: Desk[Any, Any] | None = None
    """Runs `TrmCall`s on the bundle's network; None without a bundle."""


@dataclass(frozen=True, slots=True)
class Services:
    """The models of a loop. Without a `reasoner` the proposer works alone; with a TextProposer the LLaMA does."""

    proposer: Proposer
    reasoner: Reasoner | None = None
    hub: Hub = field(default_factory=Hub)
    """Where calls of concurrent graphs share batches."""
    trm_desk: Desk[Any, Any] | None = None
    """Counts the TRM's work."""
    llm_desk: Desk[Any, Any] | None = None
    """Counts the LLaMA's."""
    bundle: Bundle | None = None
    """The checkpoint that the models come from; None for a language model alone."""
