"""Proposer of a loop without a TRM, whose only candidate is the grid in the language model's text."""

from __future__ import annotations

from typing import Any

import torch

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.runners import machine
from gridloom.solvers.parts.services import Loaded
from gridloom.solvers.types import Plan, Proposal


class TextProposer:
    """Proposer without candidates of its own; an attempt concerns only the test input that its prompt shows."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def act_steps(self) -> int:
        """Number of ACT steps, always 0."""
        return 0

    def views(self, task: Task) -> tuple[str, ...]:
        """Return no views: the prompt shows the task itself."""
        return ()

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """Raise AssertionError: without a TRM there is no latent space, and the loop never calls this method."""
        raise AssertionError("without a TRM no latent is adapted")

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Return a proposal without candidates, to which the text's grid is added."""
        return Proposal(candidates=((),) * len(task.tests), geometry=machine(self._device), only=plan.focus)


def load_proposer(loaded: Loaded) -> TextProposer:
    """Return a proposer of kind `text`, for a language model alone."""
    return TextProposer(loaded.device)
