"""The reasoner of a language model behind a server: prompts go out together, text comes back, states stay there."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.endpoint import Completion, Endpoint
from gridloom.solvers.parts.hub import Desk, Hub
from gridloom.solvers.parts.prompting import write_prompt
from gridloom.solvers.types import FinishedAttempt, Plan, Reasoning

MAX_CALLS = 64
"""Calls that are under way at a server together."""


@dataclass(frozen=True, slots=True)
class EndpointCall:
    """One prompt to answer."""

    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int


class EndpointReasoner:
    """Asks an endpoint for the grid as text."""

    def __init__(self, endpoint: Endpoint, desk: Desk[EndpointCall, Completion], *, feedback: bool) -> None:
        """Args: feedback: keep room in every prompt for earlier attempts."""
        self.endpoint = endpoint
        self._desk = desk
        self._feedback = feedback

    @property
    def model(self) -> str:
        """The model's name at the server."""
        return self.endpoint.spec.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt within its characters; the test input and the question always stay."""
        limit = self.endpoint.spec.max_prompt_characters
        return write_prompt(
            task, plan, history, count_tokens=len, budget=limit, keeps_history=self._feedback, alone=True
        )

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Ask the server. Raises ModelError."""
        answer = await self._desk.ask(EndpointCall(prompt.text, plan.max_new_tokens, plan.temperature, plan.seed))
        return Reasoning(
            prompt=prompt.text,
            text=answer.text,
            latent=None,
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            dropped_demos=prompt.dropped_demos,
            dropped_attempts=prompt.dropped_attempts,
            over_budget=prompt.over_budget,
            duration_s=answer.seconds,
            geometry={"endpoint": self.endpoint.spec.url, "tries": answer.tries},
        )


def endpoint_desk(endpoint: Endpoint, hub: Hub) -> Desk[EndpointCall, Completion]:
    """Return a desk that sends the calls of a batch side by side; the server batches them as it likes."""

    def answer(calls: list[EndpointCall]) -> list[Completion]:
        with ThreadPoolExecutor(len(calls), thread_name_prefix="endpoint") as pool:
            return list(
                pool.map(
                    lambda call: endpoint.complete(
                        call.prompt, max_new_tokens=call.max_new_tokens, temperature=call.temperature, seed=call.seed
                    ),
                    calls,
                )
            )

    return Desk(hub, answer, kind=lambda call: None, size=lambda call: 1, max_size=MAX_CALLS)
