"""Protocols of the models that the loop's nodes call, implemented by the models and by scripted substitutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.call_scheduler import CallQueue, CallScheduler
from gridloom.solvers.types import FinishedAttempt, Plan, Proposal, Reasoning
from gridloom.specs.solver import Solver
from gridloom.specs.solver_kinds import Given

if TYPE_CHECKING:
    from gridloom.runtime.checkpoints.bundle import Bundle


class Reasoner(Protocol):
    """Language model of the loop."""

    @property
    def model(self) -> str:
        """Name of the model in the ledger."""

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt of an attempt: demonstrations, test input `plan.focus`, results of earlier attempts."""

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Generate the answer to a prompt.

        Args:
            prefix: latent prefix of the previous attempt, fp16 [tokens, hidden_size]; None without one.
        """


@runtime_checkable
class Proposer(Protocol):
    """Proposer of grids for the test inputs of a task; a `ProposerKind` names the function that loads one.

    - Equal arguments give equal bits on the machine that `Proposal.geometry` describes, whatever runs concurrently:
      replays compare `Proposal.digest`, a sha256 over the computed values. `geometry` begins with
      `gridloom.solvers.parts.runners.machine(device)`.
    - One proposer serves all tasks of a stage, several concurrently in one thread. A proposer keeps no state of one
      task for another.
    - A proposer needs no LLaMA, and reads no text: where `with` names a LLaMA, the loop adds the grid in its text to
      the proposal, and passes its latent on. A proposer without use for latents ignores them.
    - Each `Candidate` has the proposer's name as its `source`, so that one attempt can hold candidates of several.
    """

    @property
    def act_steps(self) -> int:
        """Number of ACT steps where a plan sets none; 0 without a recursive network."""

    def views(self, task: Task) -> tuple[str, ...]:
        """Return the views, beside the identity, that a plan may use; empty for a proposer without views."""

    def adapt(self, latent: bytes) -> dict[str, Any] | None:
        """Map a latent, fp16 bytes, to the proposer's own space.

        Returns `sha256` and `rms` of the mapped values, which are recorded; None where latents are ignored.
        """

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Return ranked candidates for each test input, and for each check demonstration (`task.check`).

        Args:
            latent: hidden state of the LLaMA in this attempt, fp16 bytes; None without a LLaMA, or without an adapter
                that reads hidden states.
        """


@dataclass(frozen=True, slots=True)
class Loaded:
    """Loaded models of a stage's `with`, the argument of the function that makes a proposer."""

    settings: Solver
    device: str
    """Torch device string."""
    scheduler: CallScheduler
    """Scheduler of model calls; a proposer with a model of its own creates a `CallQueue` of this scheduler."""
    source: str
    """Name in messages: the checkpoint's folder, or the language model's weights."""
    bundle: Bundle | None = None
    """Checkpoint; None where `with` names a language model or nothing."""
    trm_queue: CallQueue[Any, Any] | None = None
    """Queue of `TrmCall`s to the bundle's network; None without a bundle."""
    given: Given = "nothing"
    """What `with` names."""


@dataclass(frozen=True, slots=True)
class Services:
    """Models of a loop: a proposer alone, a language model alone (with a TextProposer), or both."""

    proposer: Proposer
    reasoner: Reasoner | None = None
    scheduler: CallScheduler = field(default_factory=CallScheduler)
    """Scheduler by which calls of concurrent graphs share batches."""
    trm_queue: CallQueue[Any, Any] | None = None
    """Queue of the TRM, with its counts of calls, batches and seconds."""
    llm_queue: CallQueue[Any, Any] | None = None
    """Queue of the LLaMA, with its counts of calls, batches and seconds."""
    bundle: Bundle | None = None
    """Checkpoint of the models; None for a language model or a search alone."""
    searches_alone: bool = False
    """Whether the proposer only searches programs."""
