"""What the loop's nodes need from the models, as protocols: the real parts and the shipped fakes both fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.hub import Desk, Hub
from gridloom.solvers.types import FinishedAttempt, Plan, Proposal, Reasoning


class Reasoner(Protocol):
    """Runs the LLaMA."""

    @property
    def model(self) -> str:
        """The model's name, as the ledger shows it."""

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt of an attempt: demonstrations, test input `plan.focus`, what became of earlier attempts."""

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer it, with the latent prefix of the attempt before where there is one."""


class Proposer(Protocol):
    """Runs the adapter and the TRM."""

    @property
    def act_steps(self) -> int:
        """ACT steps where a plan names none."""

    def views(self, task: Task) -> tuple[str, ...]:
        """Views the model knows for the task beside the identity."""

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Map a latent to the TRM's space; return what is recorded of it: sha256 and scale of the injected values."""

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Predict every test input and check pair under the plan's views and vote; bit-equal for equal arguments."""


@dataclass(frozen=True, slots=True)
class Services:
    """The models of a loop. Without a `reasoner` the loop is TRM alone; with a TextProposer it is the LLaMA alone."""

    proposer: Proposer
    reasoner: Reasoner | None = None
    hub: Hub = field(default_factory=Hub)
    """Where calls of concurrent graphs share batches."""
    trm_desk: Desk[Any, Any] | None = None
    """Counts the TRM's work."""
    llm_desk: Desk[Any, Any] | None = None
    """Counts the LLaMA's."""
