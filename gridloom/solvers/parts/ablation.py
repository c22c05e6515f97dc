"""What becomes of the LLaMA's latents in an ablation: each task gets another task's, or the mean of all.

Everything else of the loop stays as it is, so the difference to a run with the task's own latents is what they are
worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from gridloom.errors import StageError
from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.services import Reasoner, Services
from gridloom.solvers.types import FinishedAttempt, Plan, Reasoning
from gridloom.specs.solver import Latents


def with_latents(services: Services, latents: Latents, tasks: Sequence[Task], seed: int) -> Services:
    """Return services whose reasoner gives the latents asked for. Raises StageError where there are none to change."""
    if latents == "own":
        return services
    reasoner = services.reasoner
    adapter = services.bundle.part("text_to_latent") if services.bundle else None
    if reasoner is None or adapter is None:
        raise StageError(
            f"latents: {latents} needs a checkpoint of joint_train; this one has no LLaMA",
            "solve with the checkpoint of a joint_train stage, or say  latents: own",
        )
    if latents == "shuffled":
        if len(tasks) < 2:
            raise StageError("latents: shuffled needs two tasks or more", "raise the stage's limit")
        return replace(services, reasoner=ShuffledReasoner(reasoner, partners(tasks, seed)))
    mean = cast(Any, adapter).standardise.shift.cpu().numpy().astype(np.float16)
    return replace(services, reasoner=MeanReasoner(reasoner, mean.tobytes()))


def partners(tasks: Sequence[Task], seed: int) -> dict[str, Task]:
    """Give every task another one, no two the same: one cycle through the tasks in an order drawn from `seed`."""
    by_id = sorted(tasks, key=lambda task: task.task_id)
    order = np.random.default_rng(seed).permutation(len(by_id)).tolist()
    return {by_id[a].task_id: by_id[b] for a, b in zip(order, [*order[1:], order[0]], strict=True)}


class ShuffledReasoner:
    """Asks the LLaMA about another task, so that its latent and text are of the right kind and about the wrong task."""

    def __init__(self, reasoner: Reasoner, partner: dict[str, Task]) -> None:
        self.reasoner, self.partner = reasoner, partner

    @property
    def model(self) -> str:
        """The model's name."""
        return self.reasoner.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt of the task's partner; what became of earlier attempts is the task's own."""
        other = self.partner[task.task_id]
        focus = min(plan.focus, len(other.tests) - 1)
        return self.reasoner.prompt(other, plan.model_copy(update={"focus": focus}), history)

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer the prompt."""
        return await self.reasoner.reason(prompt, plan, prefix)


class MeanReasoner:
    """Asks the LLaMA, and hands on the mean state of training in place of what it gave: zero once standardised."""

    def __init__(self, reasoner: Reasoner, mean: bytes) -> None:
        self.reasoner, self.mean = reasoner, mean

    @property
    def model(self) -> str:
        """The model's name."""
        return self.reasoner.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the task's prompt."""
        return self.reasoner.prompt(task, plan, history)

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer the prompt, and replace the latent."""
        reasoning = await self.reasoner.reason(prompt, plan, prefix)
        return reasoning.model_copy(update={"latent": self.mean})
