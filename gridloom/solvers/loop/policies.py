"""Planning policies: choice of the next attempt from the finished attempts.

`gridloom.specs.solver_kinds.POLICIES` is the registry of built-in policies and those of other packages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Protocol, runtime_checkable

import numpy as np

from gridloom.errors import PluginError
from gridloom.runtime.data.arc.prompts import PromptForm
from gridloom.runtime.data.files.grids import GridRows
from gridloom.solvers.parts.search_proposer import search_plan
from gridloom.solvers.types import FinishedAttempt, Plan, derive_seed
from gridloom.specs.solver import Search, Solver
from gridloom.specs.solver_kinds import POLICIES

Experience = Mapping[str, tuple[float, int]]
"""Arm (kind of plan) -> sum of verifier scores, number of attempts."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Input of a policy."""

    task_id: str
    num_tests: int
    views: tuple[str, ...]
    """Views of the task that the model was trained on, without the identity, in training order."""
    history: tuple[FinishedAttempt, ...]
    """Finished attempts at the task, in order."""
    settings: Solver
    seed: int
    """Seed of the stage."""
    has_llm: bool
    act_steps: int
    """ACT steps of the model where a plan sets no number."""
    experience: Experience
    """Scores of earlier runs in the ledger by arm; empty for a policy that does not read them."""
    has_prefix: bool
    """Whether the previous attempt gave a latent prefix."""
    searches_alone: bool = False
    """Whether the proposer only searches programs."""

    @property
    def attempt(self) -> int:
        """Number of the attempt to plan, from 1."""
        return len(self.history) + 1


@runtime_checkable
class Policy(Protocol):
    """Policy that plans the next attempt. Subclasses inherit the defaults of the protocol's attributes."""

    uses_experience: bool = False
    """Whether the policy reads `situation.experience`; if not, the ledger is not queried."""

    def plan(self, situation: Situation) -> Plan:
        """Return the plan of attempt `situation.attempt`, with the policy's name. Equal situations give equal plans."""


def make_policy(name: str) -> Policy:
    """Return a new policy of the given name.

    Raises:
        PluginError: no installed package provides the policy, it cannot be loaded, or it lacks members of `Policy`.
    """
    policy = POLICIES.get(name)()
    if not isinstance(policy, Policy):
        raise PluginError(
            f"policy {name!r} is a {type(policy).__name__} without the members of a Policy",
            "correct its package: subclass gridloom.solvers.loop.policies.Policy",
        )
    return policy


def view_window(views: Sequence[str], attempt: int, num_views: int) -> tuple[str, ...]:
    """Return the views of an attempt: consecutive windows with wrap-around, so that retries use unused views first."""
    if len(views) <= num_views:
        return tuple(views)
    start = (attempt - 1) * num_views % len(views)
    return tuple((*views[start:], *views[:start])[:num_views])


def make_plan(
    situation: Situation,
    *,
    name: str,
    num_views: int,
    temperature: float,
    prompt: PromptForm,
    act_steps: int | None,
) -> Plan:
    """Return a plan of attempt `situation.attempt`; fields without an argument are set alike for all policies."""
    settings, attempt = situation.settings, situation.attempt
    accepted = {entry.only for entry in situation.history if entry.accepted}
    still_open = [index for index in range(situation.num_tests) if index not in accepted] or [0]
    plan = Plan(
        attempt=attempt,
        seed=derive_seed(situation.seed, situation.task_id, attempt),
        views=view_window(situation.views, attempt, num_views),
        prompt=prompt,
        focus=still_open[(attempt - 1) % len(still_open)],
        temperature=temperature if situation.has_llm else 0.0,
        max_new_tokens=settings.reason.max_new_tokens if situation.has_llm else 0,
        feedback=settings.feedback and attempt > 1,
        prefix=settings.feedback and situation.has_prefix,
        act_steps=act_steps,
        halt=settings.halt,
        patience=settings.patience,
        policy=name,
    )
    return plan.model_copy(update={"arm": arm_of(plan, situation)})


def arm_of(plan: Plan, situation: Situation) -> str:
    """Return the arm of a plan: prompt form, cool or warm, narrow or wide, short or deep, joined by dots."""
    steps = situation.settings.act_steps or situation.act_steps
    return ".".join(
        [
            *([plan.prompt, "warm" if plan.temperature > 0 else "cool"] if situation.has_llm else ["trm"]),
            "wide" if len(plan.views) > situation.settings.views else "narrow",
            "deep" if (plan.act_steps or steps) > steps else "short",
        ]
    )


class Fixed(Policy):
    """Same plan each time, with the next views, the next test input, a new seed and a higher temperature."""

    def plan(self, situation: Situation) -> Plan:
        """Plan the next attempt."""
        settings = situation.settings
        return make_plan(
            situation,
            name="fixed",
            num_views=settings.views,
            temperature=settings.reason.temperature + settings.reason.temperature_step * (situation.attempt - 1),
            prompt=settings.reason.prompt,
            act_steps=settings.act_steps,
        )


class Escalate(Policy):
    """More compute per attempt: twice the views, a higher temperature, the other prompt form; then twice the ACT steps.

    ACT steps are doubled from the third attempt on.
    """

    def plan(self, situation: Situation) -> Plan:
        """Plan the next attempt."""
        settings, level = situation.settings, situation.attempt - 1
        reason, steps = settings.reason, settings.act_steps or situation.act_steps
        return make_plan(
            situation,
            name="escalate",
            num_views=min(settings.views * 2**level, max(len(situation.views), settings.views)),
            temperature=reason.temperature + reason.temperature_step * level,
            prompt=reason.prompt if level % 2 == 0 else other_form(reason.prompt),
            act_steps=2 * steps if level >= 2 else settings.act_steps,
        )


class Bandit(Policy):
    """Thompson sampling over arms (kinds of plans); the reward of an arm is the verifier's score, never an answer.

    The beta distribution of an arm counts the earlier runs in the ledger as of the stage's start, and the attempts at
    this task, so neither the order of tasks nor an interruption changes a plan.
    """

    uses_experience = True

    def plan(self, situation: Situation) -> Plan:
        """Return the plan of the arm with the highest value drawn."""
        settings, reason = situation.settings, situation.settings.reason
        steps = settings.act_steps or situation.act_steps
        forms: list[PromptForm] = [reason.prompt]
        heats = [0.0]
        if situation.has_llm:
            forms, heats = [reason.prompt, other_form(reason.prompt)], [0.0, max(reason.temperature, 0.3)]
        choices = product(forms, heats, (settings.views, 2 * settings.views), (settings.act_steps, 2 * steps))
        plans = [
            make_plan(situation, name="bandit", prompt=form, temperature=heat, num_views=num_views, act_steps=num_steps)
            for form, heat, num_views, num_steps in choices
        ]
        source = np.random.default_rng(derive_seed(situation.seed, situation.task_id, situation.attempt, "bandit"))
        arms = {plan.arm: plan for plan in plans}
        return max(arms.values(), key=lambda plan: self._draw(plan.arm, situation, source))

    def _draw(self, arm: str, situation: Situation, source: np.random.Generator) -> float:
        earned, times = situation.experience.get(arm, (0.0, 0))
        here = [entry.score for entry in situation.history if entry.arm == arm]
        earned, times = earned + sum(here), times + len(here)
        return float(source.beta(1 + earned, 1 + times - earned))


def plan_attempt(policy: Policy, situation: Situation) -> Plan:
    """Return the plan of the next attempt: a search where its turn has come, else what the policy plans.

    The first attempt searches at the first depth, the last ones of `max_attempts` at the others; the network and the
    language model have those between. A proposer that only searches does so in every attempt.
    """
    settings, attempt = situation.settings, situation.attempt
    plan = policy.plan(situation)
    search = settings.search
    if situation.searches_alone:
        search, turn = search or Search(), attempt - 1
    elif search is None:
        return plan
    else:
        later = attempt - (settings.max_attempts - len(search.depths) + 1)
        turn = 0 if attempt == 1 else later
        if turn < (attempt > 1):
            return plan
    chosen = search_plan(search, turn)
    if (hints := hints_of(situation)) is not None:
        chosen = chosen.model_copy(update={"hints": hints})
    changed = {"search": chosen, "arm": f"search.{chosen.depth}", "temperature": 0.0, "max_new_tokens": 0, "views": ()}
    return plan.model_copy(update={**changed, "feedback": False, "prefix": False})


def hints_of(situation: Situation) -> tuple[GridRows, ...] | None:
    """Return the grid with the largest share of votes that a network or a language model gave each test input in the
    finished attempts, empty without one; None where none gave any."""
    best: list[tuple[float, GridRows]] = [(0.0, [])] * situation.num_tests
    for entry in situation.history:
        for index, ranked in enumerate(entry.candidates):
            for one in ranked:
                share = one.votes / max(one.num_views, 1)
                if one.program is None and one.grid and share > best[index][0]:
                    best[index] = (share, one.grid)
    hints = tuple(grid for _, grid in best)
    return hints if any(hints) else None


def other_form(form: PromptForm) -> PromptForm:
    """Return the prompt form other than `form`."""
    return "compact" if form == "plain" else "plain"
