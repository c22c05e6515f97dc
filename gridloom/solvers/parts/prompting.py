"""The prompt of an attempt: what of the task and of the attempts before a language model is shown."""

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
    """Build a prompt within a budget; the test input and the question always stay.

    Beside a TRM it shows the demonstrations that training may see: one that is kept to check the proposal would no
    longer check anything if the LLaMA, whose state conditions the TRM, had read its output. A language model alone is
    checked against none and shown all.

    Args:
        keeps_history: keep room in every prompt for earlier attempts, so that its head never changes.
        latent: mark the place of a latent prefix, which is also where a head ends that all attempts share.
        alone: there is no TRM: ask for nothing but the grid.
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
