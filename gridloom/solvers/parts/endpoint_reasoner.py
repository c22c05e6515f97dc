"""Reasoner of a language model on a server: concurrent requests that return text, without hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.parts.call_scheduler import CallQueue, CallScheduler
from gridloom.solvers.parts.endpoint import Completion, Endpoint
from gridloom.solvers.parts.prompting import write_prompt
from gridloom.solvers.types import FinishedAttempt, Plan, Reasoning

MAX_CALLS = 64
"""Limit of concurrent requests to a server."""


@dataclass(frozen=True, slots=True)
class EndpointCall:
    """Prompt with the sampling parameters of its answer."""

    prompt: str
    max_new_tokens: int
    temperature: float
    seed: int


class EndpointReasoner:
    """Reasoner that requests the grid as text from an endpoint."""

    def __init__(self, endpoint: Endpoint, queue: CallQueue[EndpointCall, Completion], *, feedback: bool) -> None:
        """Wrap an endpoint.

        Args:
            feedback: reserve room in every prompt for earlier attempts.
        """
        self.endpoint = endpoint
        self._queue = queue
        self._feedback = feedback

    @property
    def model(self) -> str:
        """Name of the model on the server."""
        return self.endpoint.spec.model

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt within `max_prompt_characters`; the test input and the question are never dropped."""
        limit = self.endpoint.spec.max_prompt_characters
        return write_prompt(
            task, plan, history, count_tokens=len, budget=limit, keeps_history=self._feedback, alone=True
        )

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Request the answer from the server. Raises ModelError."""
        answer = await self._queue.submit(EndpointCall(prompt.text, plan.max_new_tokens, plan.temperature, plan.seed))
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
            geometry={"endpoint": self.endpoint.spec.url, "tries": answer.tries, "sent": dict(answer.sent)},
            finish_reason=answer.finish_reason,
            reasoning_content=answer.reasoning_content,
        )


def endpoint_queue(endpoint: Endpoint, scheduler: CallScheduler) -> CallQueue[EndpointCall, Completion]:
    """Return a queue that sends the calls of a batch concurrently; the server decides how to batch them."""

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

    return CallQueue(scheduler, answer, kind=lambda call: None, size=lambda call: 1, max_size=MAX_CALLS)
