"""Confirmation of a language model's grid: the model is asked again, and its answers are compared.

With a demonstration left out of the prompt, the model predicts that demonstration's output, which is known. Under
another view (a dihedral transform and a colour permutation of the whole task) its answer, mapped back, votes for the
same grid or for another. Every question is recorded with its answer, so that an attempt replays without the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gridloom.runtime.data.arc.parsing import read_grid_text
from gridloom.runtime.data.arc.views import View
from gridloom.runtime.data.files.grids import GridRows, rows
from gridloom.runtime.data.tasks import SEPARATOR, Grid, Pair, Task
from gridloom.solvers.loop.text_grids import shown_in
from gridloom.solvers.parts.services import Reasoner
from gridloom.solvers.types import Ask, Candidate, Plan, Proposal, derive_seed
from gridloom.specs.solver import Confirm


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Question about a changed task."""

    about: str
    """`demo 2` for the second demonstration left out, else the view's name without the task id."""
    task: Task
    plan: Plan
    demo: int | None = None
    """Index of the demonstration that is left out; None for a view."""
    view: View | None = None
    """View of the task; None where a demonstration is left out."""


def questions(task: Task, plan: Plan, confirm: Confirm) -> list[Question]:
    """Return the questions of an attempt: demonstrations left out, then views. Equal arguments give equal questions.

    Successive attempts leave out successive demonstrations. A task of one demonstration has none to leave out.
    """
    number = len(task.demos) if len(task.demos) > 1 else 0
    asked = []
    for count in range(min(confirm.left_out, number)):
        demo = ((plan.attempt - 1) * confirm.left_out + count) % number
        rest = tuple(pair for index, pair in enumerate(task.demos) if index != demo)
        without = replace(task, demos=rest, tests=(task.demos[demo].input,), check=(), known=())
        asked.append(Question(f"demo {demo + 1}", without, _plan(plan, f"demo {demo}", focus=0), demo=demo))
    source = np.random.default_rng(derive_seed(plan.seed, "views"))
    turns = source.permutation(np.arange(1, 8))
    for count in range(confirm.views):
        colours = (0, *(int(colour) for colour in source.permutation(np.arange(1, 10))))
        view = View(int(turns[count % 7]), colours)
        name = view.name("").removeprefix(SEPARATOR)
        asked.append(Question(name, _under(task, view), _plan(plan, name, focus=plan.focus), view=view))
    return asked


def _plan(plan: Plan, name: str, *, focus: int) -> Plan:
    seed = derive_seed(plan.seed, name)
    return plan.model_copy(update={"seed": seed, "focus": focus, "feedback": False, "prefix": False})


def _under(task: Task, view: View) -> Task:
    demos = tuple(Pair(view.apply(pair.input), view.apply(pair.output)) for pair in task.demos)
    return replace(task, demos=demos, tests=tuple(map(view.apply, task.tests)), check=(), known=())


async def ask_again(
    reasoner: Reasoner, proposal: Proposal, task: Task, plan: Plan, confirm: Confirm, *, tokens: int | None = None
) -> Proposal:
    """Return the proposal with the answers to its questions, asked one after the other.

    No question follows a wrong answer about a demonstration, since the attempt is then rejected, and none follows where
    the text had no grid or `tokens` are spent.

    Args:
        tokens: tokens that may still be spent; None without a limit.
    """
    asks: list[Ask] = []
    if proposal.candidates[plan.focus]:
        for question in questions(task, plan, confirm):
            if tokens is not None and sum(ask.tokens for ask in asks) >= tokens:
                break
            prompt = reasoner.prompt(question.task, question.plan, ())
            answer = await reasoner.reason(prompt, question.plan, None)
            ask = Ask(
                about=question.about,
                prompt=answer.prompt,
                text=answer.text,
                cut=answer.finish_reason == "length",
                prompt_tokens=answer.prompt_tokens,
                new_tokens=answer.new_tokens,
                duration_s=answer.duration_s,
            )
            asks.append(ask)
            if question.demo is not None and not _is_right(_read(ask, question), task, question.demo):
                break
    return with_answers(proposal, task, plan, confirm, asks)


def with_answers(proposal: Proposal, task: Task, plan: Plan, confirm: Confirm, asks: Sequence[Ask]) -> Proposal:
    """Return the proposal with the votes of the views and the predictions of the demonstrations that were left out.

    The proposal is confirmed when every question was asked, every demonstration was predicted, and more than half of
    the views, the task's own included, gave the first grid.
    """
    if not asks:
        return proposal
    wanted = questions(task, plan, confirm)
    grids: list[GridRows] = [list(proposal.candidates[plan.focus][0].grid)]
    checks: list[tuple[Candidate, ...]] = []
    demos: list[int] = []
    num_views = 1
    for question, ask in zip(wanted, asks, strict=False):
        grid = _read(ask, question)
        if question.demo is not None:
            demos.append(question.demo)
            checks.append((Candidate(grid=grid, source="llama", votes=1, num_views=1),) if grid else ())
        else:
            num_views += 1
            grids += [grid] if grid else []
    votes: dict[tuple[tuple[int, ...], ...], int] = {}
    for grid in grids:
        key = tuple(map(tuple, grid))
        votes[key] = votes.get(key, 0) + 1
    ranked = sorted(votes.items(), key=lambda item: -item[1])  # stable: the first answer before others of equal votes
    candidates = list(proposal.candidates)
    candidates[plan.focus] = tuple(
        Candidate(grid=[list(row) for row in key], source="llama", votes=count, num_views=num_views)
        for key, count in ranked
    )
    predicted = all(
        _is_right(ranked_check[0].grid if ranked_check else [], task, demo)
        for ranked_check, demo in zip(checks, demos, strict=True)
    )
    return proposal.model_copy(
        update={
            "candidates": tuple(candidates),
            "checks": tuple(checks),
            "checked": tuple(demos),
            "confirmation": {
                "confirmed": len(asks) == len(wanted) and predicted and 2 * ranked[0][1] > num_views,
                "asks": [ask.model_dump() for ask in asks],
            },
        }
    )


def _read(ask: Ask, question: Question) -> GridRows:
    """Return the grid of an answer in the task's own view; [] without a grid."""
    grid = read_grid_text(ask.text, shown_in(question.task, question.plan), cut=ask.cut).grid
    if not grid or question.view is None:
        return grid
    return rows(question.view.inverse(np.asarray(grid, dtype=np.uint8)))


def _is_right(grid: GridRows, task: Task, demo: int) -> bool:
    wanted: Grid = task.demos[demo].output
    return np.array_equal(np.asarray(grid), wanted)
