"""The proposer of a loop without a TRM: all it proposes is the grid that the language model wrote."""

from __future__ import annotations

from typing import Any

import torch

from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.runners import machine
from gridloom.solvers.parts.services import Loaded
from gridloom.solvers.types import Plan, Proposal


class TextProposer:
    """Leaves every candidate to the text; an attempt is about the one test input that its prompt shows."""

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def act_steps(self) -> int:
        """There are none."""
        return 0

    def views(self, task: Task) -> tuple[str, ...]:
        """Return no views: the model reads the task as it stands."""
        return ()

    def adapt(self, latent: bytes) -> dict[str, Any]:
        """There is nothing to map a latent to; the loop never asks."""
        raise AssertionError("without a TRM no latent is adapted")

    async def propose(self, task: Task, plan: Plan, latent: bytes | None) -> Proposal:
        """Return a proposal without candidates, to which the text's grid is added."""
        return Proposal(candidates=((),) * len(task.tests), geometry=machine(self._device), only=plan.focus)


def load_proposer(loaded: Loaded) -> TextProposer:
    """Make the proposer of kind `text`, for a language model alone."""
    return TextProposer(loaded.device)
