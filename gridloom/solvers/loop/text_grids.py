"""Grid of a language model's text as a candidate of the proposal."""

from __future__ import annotations

from typing import Any

from gridloom.runtime.data.arc.parsing import PARSER, Shown, last_block, read_grid_text
from gridloom.runtime.data.tasks import Task
from gridloom.solvers.types import Candidate, Plan, Proposal, Reasoning


def shown_in(task: Task, plan: Plan) -> Shown:
    """Return the grids of the prompt: the demonstrations, and test input `plan.focus`."""
    return Shown(
        test_input=task.tests[plan.focus],
        others=[grid for pair in task.demos for grid in (pair.input, pair.output)],
        test_index=plan.focus,
        num_tests=len(task.tests),
    )


def is_cut(reasoning: Reasoning) -> bool:
    """Return whether the model stopped at its limit of tokens."""
    return reasoning.finish_reason == "length"


def with_text_grid(
    proposal: Proposal, task: Task, plan: Plan, reasoning: Reasoning, *, cut: bool, parser: int = PARSER
) -> Proposal:
    """Return the proposal with the grid of the text as the last candidate of test input `plan.focus`.

    The choice among the text's grids, or the reason why there is none, is the proposal's `reading`.

    Args:
        cut: whether the model stopped at its limit of tokens.
        parser: version of the parser; attempts are replayed by the parser that they were recorded with.
    """
    reading: dict[str, Any] | None = None
    if parser == 1:
        grid = last_block(reasoning.text) or []
    else:
        found = read_grid_text(reasoning.text, shown_in(task, plan), cut=cut)
        grid, reading = found.grid, found.as_dict()
        if not grid and not reasoning.text.strip():
            reading["note"] = _why_empty(reasoning, plan)
    proposal = proposal.model_copy(update={"reading": reading})
    if not grid or plan.focus >= len(proposal.candidates):
        return proposal
    written = Candidate(grid=grid, source="llama", votes=1, num_views=1 + len(plan.views))
    candidates = list(proposal.candidates)
    candidates[plan.focus] = (*candidates[plan.focus], written)
    return proposal.model_copy(update={"candidates": tuple(candidates)})


def _why_empty(reasoning: Reasoning, plan: Plan) -> str:
    """Return the reason why a model wrote no text."""
    if not plan.max_new_tokens:
        return "no text was asked for"
    how = f" (finish_reason {reasoning.finish_reason})" if reasoning.finish_reason else ""
    if reasoning.reasoning_content or (reasoning.finish_reason == "length" and reasoning.new_tokens):
        spent = f"{reasoning.new_tokens} tokens of {plan.max_new_tokens}"
        return f"the answer is empty: {spent} went into reasoning{how}; raise max_new_tokens"
    return f"the answer is empty{how}"
