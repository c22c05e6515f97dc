"""The real reasoner: the checkpoint's LLaMA, asked in the way that joint training asked it."""

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
from gridloom.solvers.parts.hub import Desk, Hub
from gridloom.solvers.parts.prompting import write_prompt
from gridloom.solvers.types import FinishedAttempt, Plan, Reasoning


@dataclass(frozen=True, slots=True)
class LlmCall:
    """One prompt to answer."""

    prompt: str
    prefix: bytes | None
    """fp16 [tokens, hidden_size]"""
    max_new_tokens: int
    temperature: float
    seed: int
    num_tokens: int
    """Of the prompt."""


@dataclass(frozen=True, slots=True)
class LlmAnswer:
    """What became of it."""

    text: str
    hidden: np.ndarray[Any, np.dtype[np.float32]]
    """fp32 [hidden_size], or [states, hidden_size] where the adapter reads token states"""
    prompt_tokens: int
    new_tokens: int
    duration_s: float
    """This call's share of the batch's time."""
    geometry: dict[str, Any]


class LlmRunner(Protocol):
    """Runs calls, one by one or several in one batch."""

    async def ask(self, call: LlmCall) -> LlmAnswer:
        """Answer the call."""


class LlamaReasoner:
    """Reasons with a local language model."""

    def __init__(self, llama: Llama, runner: LlmRunner, *, feedback: bool, latent: bool, alone: bool = False) -> None:
        """Wrap a loaded model.

        Args:
            feedback: keep room in every prompt for earlier attempts, so that its head never changes.
            latent: mark the place of a latent prefix in every prompt, as training did where there is the adapter.
            alone: there is no TRM: ask for the grid alone, and keep no hidden state.
        """
        self.llama = llama
        self._alone = alone
        self._keeps_history = feedback
        self._latent = latent
        self._runner = runner

    @property
    def model(self) -> str:
        """Name or folder of the weights, as the spec wrote it."""
        return self.llama.spec.weights

    def prompt(self, task: Task, plan: Plan, history: Sequence[FinishedAttempt]) -> BuiltPrompt:
        """Build the prompt within the model's token budget; the test input and the question always stay."""
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
        """Ask the model; the hidden state is rounded to fp16 here, before anything uses it. Raises ModelError."""
        answer = await self._runner.ask(
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
        )


def llm_desk(llama: Llama, hub: Hub, max_tokens: int, num_states: int = 1) -> Desk[LlmCall, LlmAnswer]:
    """Return a desk whose batches hold up to `max_tokens` tokens, prompts and answers together.

    What a task's prompts begin with is read once for all its attempts, each such head alone: so it does not depend on
    who shares the batch.

    Args:
        num_states: token states that the adapter reads.
    """
    heads = HeadCache(llama)
    return Desk(
        hub,
        lambda calls: answer_calls(llama, calls, num_states, heads),
        kind=lambda call: call.max_new_tokens,
        size=lambda call: call.num_tokens + call.max_new_tokens,
        max_size=max_tokens,
    )


def answer_calls(
    llama: Llama, calls: Sequence[LlmCall], num_states: int = 1, heads: HeadCache | None = None
) -> list[LlmAnswer]:
    """Answer calls of equal `max_new_tokens` in one batch."""
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
