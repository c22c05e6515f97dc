"""What a language model is asked about a task: demonstrations, a test input, earlier attempts, and a closing question.

A prompt has a head (demonstrations and test input), which stays the same over the attempts at a test input, and a tail
(what became of earlier attempts, and the question). `LATENT` between them marks where a latent prefix is read; as a
causal model's states of the head do not depend on what follows, they can be computed once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gridloom.runtime.data.tasks import Pair

LATENT = "[latent]"
"""Where the latent prefix goes; without it, at the start. Never reaches the model as text."""
PromptForm = Literal["plain", "compact"]
"""`plain` writes cells as digits with spaces between, `compact` without, which is half as many tokens."""
HEADING = "Each example turns an input grid into an output grid by the same rule. Digits are colours."
QUESTION = (
    "What is the output grid of the test input? Think step by step about the rule, then write the grid as rows of "
    "digits."
)
GRID_ALONE = "What is the output grid of the test input? Write it as rows of digits, and nothing else."
"""The question where the text is the answer, and tokens for thoughts would be taken from the grid's."""
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class EarlierAttempt:
    """What the prompt tells of an attempt made before."""

    attempt: int
    """Counts from 1."""
    feedback: str
    """What was wrong with it, in one line."""
    grid: Sequence[Sequence[int]] = ()
    """The proposed grid; empty where there was none."""
    reasoning: str = ""
    """The text that the model wrote; shown shortened."""


@dataclass(frozen=True, slots=True)
class BuiltPrompt:
    """A prompt that keeps to its budget, and what was left out for it."""

    text: str
    num_tokens: int
    """As the model counts them, its chat template included, the latent prefix not."""
    dropped_demos: int = 0
    """Demonstrations left out, oldest first."""
    dropped_attempts: int = 0
    """Earlier attempts left out, oldest first."""
    over_budget: int = 0
    """Tokens above the budget, which test input and question alone can take."""


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
    """Write the prompt, leaving out the oldest demonstrations and attempts that its budget has no room for.

    The head may take `budget - history_budget` tokens whether there is a history or not, so it is the same for every
    attempt. The test input and the question always stay, and so does the newest earlier attempt.

    Args:
        test_input: integer grid [rows, columns].
        count_tokens: tokens of a whole prompt, as the model that will read it counts them.
        history_budget: tokens that earlier attempts may take.
        latent: mark the place of a latent prefix. Say it for every attempt of a loop that feeds latents back, the first
            included: a mark parts the text before it is tokenised.
        question: closes the prompt.
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
    told = [_attempt_text(entry, form) for entry in history]
    dropped_attempts = 0
    while dropped_attempts < len(told) - 1 and count_tokens(kept + _tail(told[dropped_attempts:], question)) > room:
        dropped_attempts += 1
    tail = _tail(told[dropped_attempts:], question)
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
"""How much of an earlier attempt's text is repeated; its end is what counts."""


def _tail(told: Sequence[str], question: str) -> str:
    return "\n".join([*(("Earlier attempts:", *told) if told else ()), question])


def _attempt_text(entry: EarlierAttempt, form: PromptForm) -> str:
    lines = [f"Attempt {entry.attempt}"]
    if entry.reasoning.strip():
        lines.append(f"Reasoning: {entry.reasoning.strip()[-REASONING_CHARACTERS:]}")
    if len(entry.grid):
        lines += ["Proposed:", grid_text(entry.grid, form)]
    lines.append(f"Feedback: {entry.feedback}")
    # what a model wrote must not move the place of the latent
    return "\n".join(lines).replace(LATENT, "") + "\n"
