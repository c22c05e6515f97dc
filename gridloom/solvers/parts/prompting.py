"""Prompt of an attempt: demonstrations, earlier attempts and test input, within a token budget."""

from __future__ import annotations

from collections.abc import Sequence

from gridloom.runtime.data.arc.prompts import (
    GRID_ALONE,
    QUESTION,
    BuiltPrompt,
    CountTokens,
    EarlierAttempt,
    PromptForm,
    build_prompt,
)
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.models.language.cost import HISTORY_SHARE
from gridloom.solvers.types import FinishedAttempt, Plan


def write_prompt(
    task: Task,
    plan: Plan,
    history: Sequence[FinishedAttempt],
    *,
    count_tokens: CountTokens,
    budget: int,
    keeps_history: bool,
    latent: bool = False,
    alone: bool = False,
) -> BuiltPrompt:
    """Build a prompt within a budget; the test input and the question are never dropped.

    With a TRM the prompt omits the check demonstrations: a demonstration cannot check a proposal if the LLaMA, whose
    state conditions the TRM, has read its output. Without a TRM no demonstration checks the proposal, and the prompt
    shows all.

    Args:
        budget: limit of the prompt, in units of `count_tokens`.
        keeps_history: whether room for earlier attempts is reserved in every prompt, so that its head never changes.
        latent: whether the place of a latent prefix is marked; the head that all attempts share ends there.
        alone: whether there is no TRM; the question then requests the grid alone.
    """
    form: PromptForm = "compact" if plan.prompt == "compact" else "plain"
    earlier = [
        EarlierAttempt(
            attempt=entry.attempt,
            feedback=entry.feedback,
            grid=entry.candidates[plan.focus][0].grid if entry.candidates[plan.focus] else (),
            reasoning=entry.text,
        )
        for entry in history
        if entry.only in (None, plan.focus)
    ]
    return build_prompt(
        [demo for index, demo in enumerate(task.demos) if alone or index not in task.check],
        task.tests[plan.focus],
        count_tokens=count_tokens,
        budget=budget,
        history=earlier,
        history_budget=budget // HISTORY_SHARE if keeps_history else 0,
        latent=latent,
        form=form,
        question=GRID_ALONE if alone else QUESTION,
    )
