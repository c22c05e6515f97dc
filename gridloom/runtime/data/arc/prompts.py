"""Prompts about a task for a language model: demonstrations, a test input, earlier attempts, and a closing question.

A prompt has a head (demonstrations and test input), which is constant over the attempts at a test input, and a tail
(feedback on earlier attempts, and the question). `LATENT` between them marks the position of a latent prefix. A causal
model's states of the head do not depend on the tail, so they can be computed once and cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gridloom.runtime.data.tasks import Pair

LATENT = "[latent]"
"""Marker of the latent prefix's position; without a marker the prefix is placed at the start. Never tokenised."""
PromptForm = Literal["plain", "compact"]
"""`plain` writes cells as digits separated by spaces; `compact` omits the spaces and takes half as many tokens."""
HEADING = "Each example turns an input grid into an output grid by the same rule. Digits are colours."
QUESTION = (
    "What is the output grid of the test input? Think step by step about the rule, then write the grid as rows of "
    "digits."
)
GRID_ALONE = "What is the output grid of the test input? Write it as rows of digits, and nothing else."
"""Question for text answers, where tokens for reasoning would reduce the tokens left for the grid."""
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class EarlierAttempt:
    """Earlier attempt as the prompt shows it."""

    attempt: int
    """Counts from 1."""
    feedback: str
    """Reason for rejection, in one line."""
    grid: Sequence[Sequence[int]] = ()
    """Proposed grid; empty if there was none."""
    reasoning: str = ""
    """Text that the model wrote; shown shortened."""


@dataclass(frozen=True, slots=True)
class BuiltPrompt:
    """Prompt within its token budget, and counts of what was dropped."""

    text: str
    num_tokens: int
    """Tokens by the model's tokeniser, with its chat template, without the latent prefix."""
    dropped_demos: int = 0
    """Demonstrations dropped, oldest first."""
    dropped_attempts: int = 0
    """Earlier attempts dropped, oldest first."""
    over_budget: int = 0
    """Tokens above the budget: test input and question are never dropped and can exceed it."""


def build_prompt(
    demos: Sequence[Pair],
    test_input: ArrayLike,
    *,
    count_tokens: CountTokens,
    budget: int,
    history: Sequence[EarlierAttempt] = (),
    history_budget: int = 0,
    latent: bool = False,
    form: PromptForm = "plain",
    question: str = QUESTION,
) -> BuiltPrompt:
    """Build the prompt, dropping the oldest demonstrations and attempts that exceed its budget.

    The head may take `budget - history_budget` tokens with and without a history, so it is the same for every
    attempt. The test input, the question and the newest earlier attempt are never dropped.

    Args:
        test_input: integer grid [rows, columns].
        count_tokens: number of tokens of a whole prompt by the model's tokeniser.
        history_budget: tokens that earlier attempts may take.
        latent: mark the position of a latent prefix. Set it for every attempt of a loop that feeds latents back, the
            first included: a mark splits the text before tokenisation.
        question: last lines of the prompt.
    """
    test = f"Test input:\n{grid_text(test_input, form)}\n"
    examples = [
        f"Example {i}\nInput:\n{grid_text(pair.input, form)}\nOutput:\n{grid_text(pair.output, form)}\n"
        for i, pair in enumerate(demos, start=1)
    ]

    def head(dropped: int) -> str:
        return "\n".join([HEADING, "", *examples[dropped:], test])

    dropped_demos, room = 0, budget - history_budget
    while dropped_demos < len(examples) and count_tokens(head(dropped_demos) + question) > room:
        dropped_demos += 1
    kept = head(dropped_demos)
    room = history_budget + count_tokens(kept + question)
    attempts = [_attempt_text(entry, form) for entry in history]
    dropped_attempts = 0
    while (
        dropped_attempts < len(attempts) - 1
        and count_tokens(kept + _tail(attempts[dropped_attempts:], question)) > room
    ):
        dropped_attempts += 1
    tail = _tail(attempts[dropped_attempts:], question)
    text = f"{kept}{LATENT if latent else ''}{tail}"
    num_tokens = count_tokens(text)
    return BuiltPrompt(
        text=text,
        num_tokens=num_tokens,
        dropped_demos=dropped_demos,
        dropped_attempts=dropped_attempts,
        over_budget=max(0, num_tokens - budget),
    )


def grid_text(grid: ArrayLike, form: PromptForm = "plain") -> str:
    """Write a grid as rows of digits, one line a row."""
    between = " " if form == "plain" else ""
    return "\n".join(between.join(str(int(cell)) for cell in row) for row in np.asarray(grid))


REASONING_CHARACTERS = 200
"""Characters of an earlier attempt's text that are repeated, counted from its end."""


def _tail(attempts: Sequence[str], question: str) -> str:
    return "\n".join([*(("Earlier attempts:", *attempts) if attempts else ()), question])


def _attempt_text(entry: EarlierAttempt, form: PromptForm) -> str:
    lines = [f"Attempt {entry.attempt}"]
    if entry.reasoning.strip():
        lines.append(f"Reasoning: {entry.reasoning.strip()[-REASONING_CHARACTERS:]}")
    if len(entry.grid):
        lines += ["Proposed:", grid_text(entry.grid, form)]
    lines.append(f"Feedback: {entry.feedback}")
    # a marker in the model's own text must not move the latent prefix
    return "\n".join(lines).replace(LATENT, "") + "\n"
