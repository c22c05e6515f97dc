"""Reasoner with a local LLaMA, prompted in the same way as in joint training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from gridloom.errors import ModelError
from gridloom.runtime.data.arc.prompts import BuiltPrompt
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.models.language.generate import reason
from gridloom.runtime.models.language.head_cache import HeadCache
from gridloom.runtime.models.language.llama import Llama
from gridloom.solvers.parts.call_scheduler import CallQueue, CallScheduler
from gridloom.solvers.parts.prompting import write_prompt
from gridloom.solvers.types import FinishedAttempt, Plan, Reasoning


@dataclass(frozen=True, slots=True)
class LlmCall:
    """Prompt with the sampling parameters of its answer."""

    prompt: str
    prefix: bytes | None
    """Latent prefix, fp16 [tokens, hidden_size]; None without one."""
    max_new_tokens: int
    temperature: float
    seed: int
    num_tokens: int
    """Number of tokens of the prompt."""


@dataclass(frozen=True, slots=True)
class LlmAnswer:
    """Result of one LLaMA call: generated text and hidden state."""

    text: str
    hidden: np.ndarray[Any, np.dtype[np.float32]]
    """Hidden state, fp32 [hidden_size], or [states, hidden_size] where the adapter reads token states."""
    prompt_tokens: int
    new_tokens: int
    duration_s: float
    """Share of the batch's time that this call took, s."""
    geometry: dict[str, Any]
    """Number of rows of the batch, and row of this call."""


class LlmRunner(Protocol):
    """Runner of LLaMA calls, which may run several calls in one batch."""

    async def submit(self, call: LlmCall) -> LlmAnswer:
        """Generate the answer of a call."""


class LlamaReasoner:
    """Reasoner that runs a local language model."""

    def __init__(self, llama: Llama, runner: LlmRunner, *, feedback: bool, latent: bool, alone: bool = False) -> None:
        """Wrap a loaded model.

        Args:
            feedback: reserve room in every prompt for earlier attempts, so that its head never changes.
            latent: mark the place of a latent prefix in every prompt, as training does with a latent_to_text adapter.
            alone: there is no TRM: request the grid alone, and keep no hidden state.
        """
        self.llama = llama
        self._alone = alone
        self._keeps_history = feedback
        self._latent = latent
        self._runner = runner

    @property
    def model(self) -> str:
        """Name or folder of the weights, as in the spec."""
        return self.llama.spec.weights

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt within the model's token budget; the test input and the question are never dropped."""
        return write_prompt(
            task,
            plan,
            history,
            count_tokens=self.llama.count_tokens,
            budget=self.llama.spec.max_prompt_tokens,
            keeps_history=self._keeps_history,
            latent=self._latent,
            alone=self._alone,
        )

    async def reason(self, prompt: BuiltPrompt, plan: Plan, prefix: bytes | None) -> Reasoning:
        """Run the model and round its hidden state to fp16, before any use of the state.

        Raises:
            ModelError: the hidden state is not finite in fp16.
        """
        answer = await self._runner.submit(
            LlmCall(prompt.text, prefix, plan.max_new_tokens, plan.temperature, plan.seed, prompt.num_tokens)
        )
        with np.errstate(over="ignore"):
            latent = answer.hidden.astype(np.float16)
        if not self._alone and not np.isfinite(latent).all():
            largest = float(np.abs(answer.hidden).max())
            raise ModelError(
                f"LLaMA '{self.model}' gave a hidden state that fp16 cannot hold (largest value {largest:g})",
                "use another language model, or precision: fp32 for it",
            )
        return Reasoning(
            prompt=prompt.text,
            text=answer.text,
            latent=None if self._alone else latent.tobytes(),
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            prefix=prefix,
            prefix_tokens=len(prefix) // (2 * self.llama.hidden_size) if prefix else 0,
            dropped_demos=prompt.dropped_demos,
            dropped_attempts=prompt.dropped_attempts,
            over_budget=prompt.over_budget,
            duration_s=answer.duration_s,
            geometry=answer.geometry,
            finish_reason="length" if 0 < plan.max_new_tokens <= answer.new_tokens else "stop",
        )


def llm_queue(
    llama: Llama, scheduler: CallScheduler, max_tokens: int, num_states: int = 1
) -> CallQueue[LlmCall, LlmAnswer]:
    """Return a queue whose batches hold up to `max_tokens` tokens, prompts and answers together.

    The common head of a task's prompts is read once for all attempts, in a batch of its own, so that its keys and
    values do not depend on the calls that share a batch.

    Args:
        num_states: number of token states that the adapter reads.
    """
    heads = HeadCache(llama)
    return CallQueue(
        scheduler,
        lambda calls: answer_calls(llama, calls, num_states, heads),
        kind=lambda call: call.max_new_tokens,
        size=lambda call: call.num_tokens + call.max_new_tokens,
        max_size=max_tokens,
    )


def answer_calls(
    llama: Llama, calls: Sequence[LlmCall], num_states: int = 1, heads: HeadCache | None = None
) -> list[LlmAnswer]:
    """Generate the answers of calls with equal `max_new_tokens` in one batch."""
    began = time.perf_counter()
    answers = reason(
        llama,
        [call.prompt for call in calls],
        prefix=[_prefix(call, llama.hidden_size) for call in calls],
        max_new_tokens=calls[0].max_new_tokens,
        temperature=[call.temperature for call in calls],
        seeds=[call.seed for call in calls],
        num_states=num_states,
        heads=heads,
    )
    duration_s = time.perf_counter() - began
    num_tokens = [answer.prompt_tokens + answer.new_tokens for answer in answers]
    return [
        LlmAnswer(
            text=answer.text,
            hidden=answer.hidden.numpy(),
            prompt_tokens=answer.prompt_tokens,
            new_tokens=answer.new_tokens,
            duration_s=duration_s * num_tokens[row] / sum(num_tokens),
            geometry={"batch_rows": len(calls), "row": row},
        )
        for row, answer in enumerate(answers)
    ]


def _prefix(call: LlmCall, width: int) -> torch.Tensor | None:
    if call.prefix is None:
        return None
    return torch.from_numpy(np.frombuffer(call.prefix, dtype=np.float16).reshape(-1, width).copy()).float()
