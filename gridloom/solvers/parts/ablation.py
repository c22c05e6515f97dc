"""Replacement of the LLaMA's latents in an ablation: each task gets another task's latents, or the training mean.

The rest of the loop is unchanged, so the difference to a run with a task's own latents measures the latents' value.
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
    """Return services whose reasoner gives latents of the kind `latents`.

    Raises:
        StageError: the checkpoint has no LLaMA or no adapter, or `shuffled` is set for fewer than two tasks.
    """
    if latents == "own":
        return services
    reasoner = services.reasoner
    adapter = services.bundle.part("text_to_latent") if services.bundle else None
    if reasoner is None or adapter is None:
        raise StageError(
            f"latents: {latents} needs a checkpoint of joint_train; this one has no LLaMA",
            "solve with the checkpoint of a joint_train stage, or set  latents: own",
        )
    if latents == "shuffled":
        if len(tasks) < 2:
            raise StageError("latents: shuffled needs two tasks or more", "raise the stage's limit")
        return replace(services, reasoner=ShuffledReasoner(reasoner, partners(tasks, seed)))
    mean = cast(Any, adapter).standardise.shift.cpu().numpy().astype(np.float16)
    return replace(services, reasoner=MeanReasoner(reasoner, mean.tobytes()))


def partners(tasks: Sequence[Task], seed: int) -> dict[str, Task]:
    """Return task id -> another task, a permutation of one cycle through the tasks, in an order drawn from `seed`."""
    by_id = sorted(tasks, key=lambda task: task.task_id)
    order = np.random.default_rng(seed).permutation(len(by_id)).tolist()
    return {by_id[a].task_id: by_id[b] for a, b in zip(order, [*order[1:], order[0]], strict=True)}


class ShuffledReasoner:
    """Reasoner that prompts with another task: latent and text have the right distribution and the wrong content."""

    def __init__(self, reasoner: Reasoner, partner: dict[str, Task]) -> None:
        self.reasoner, self.partner = reasoner, partner

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.reasoner.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt of the task's partner, with the results of the task's own earlier attempts."""
        other = self.partner[task.task_id]
        focus = min(plan.focus, len(other.tests) - 1)
        return self.reasoner.prompt(other, plan.model_copy(update={"focus": focus}), history)

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer the prompt."""
        return await self.reasoner.reason(prompt, plan, prefix)


class MeanReasoner:
    """Reasoner whose latent is the mean hidden state of the training, which is zero once standardised."""

    def __init__(self, reasoner: Reasoner, mean: bytes) -> None:
        self.reasoner, self.mean = reasoner, mean

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.reasoner.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the task's prompt."""
        return self.reasoner.prompt(task, plan, history)

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Answer the prompt, and replace the latent."""
        reasoning = await self.reasoner.reason(prompt, plan, prefix)
        return reasoning.model_copy(update={"latent": self.mean})
