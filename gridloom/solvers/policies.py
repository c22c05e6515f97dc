"""Planning policies: which attempt to make next, from the attempts so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gridloom.errors import StageError
from gridloom.solvers.types import Entry, Plan, derive_seed
from gridloom.specs.solver import Solver


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy may look at."""

    task_id: str
    num_tests: int
    views: tuple[str, ...]
    """Views the model knows for the task beside the identity, in training order."""
    history: tuple[Entry, ...]
    """Attempts made, in order."""
    settings: Solver
    seed: int
    """The stage's seed."""
    has_llm: bool
    has_prefix: bool
    """Whether the attempt before left a latent prefix."""

    @property
    def attempt(self) -> int:
        """Number of the attempt to plan, from 1."""
        return len(self.history) + 1


class Policy(Protocol):
    """Chooses the next attempt."""

    def plan(self, situation: Situation) -> Plan:
        """Return the plan of attempt `situation.attempt`; the same situation gives the same plan."""


POLICIES: dict[str, Callable[[], Policy]] = {}
"""Policies by the name a spec writes in `solver.policy`."""


def policy(name: str) -> Callable[[Callable[[], Policy]], Callable[[], Policy]]:
    """Register a policy."""

    def register(factory: Callable[[], Policy]) -> Callable[[], Policy]:
        POLICIES[name] = factory
        return factory

    return register


def make_policy(name: str) -> Policy:
    """Return the policy of that name. Raises StageError for an unknown one."""
    if name not in POLICIES:
        raise StageError(f"unknown planning policy '{name}'", f"known: {', '.join(sorted(POLICIES))}")
    return POLICIES[name]()


def view_window(views: Sequence[str], attempt: int, num_views: int) -> tuple[str, ...]:
    """Return the views of an attempt: consecutive windows, going round, so that retries see what was not yet seen."""
    if len(views) <= num_views:
        return tuple(views)
    start = (attempt - 1) * num_views % len(views)
    return tuple((*views[start:], *views[:start])[:num_views])


@policy("fixed")
class Fixed:
    """The same plan each time: next views, next test input, own seed, and a temperature that grows by one step."""

    def plan(self, situation: Situation) -> Plan:
        """Plan the next attempt."""
        settings, attempt = situation.settings, situation.attempt
        reason = settings.reason
        retry = attempt > 1
        return Plan(
            attempt=attempt,
            seed=derive_seed(situation.seed, situation.task_id, attempt),
            views=view_window(situation.views, attempt, settings.views),
            prompt=reason.prompt,
            focus=(attempt - 1) % max(situation.num_tests, 1),
            temperature=reason.temperature + reason.temperature_step * (attempt - 1) if situation.has_llm else 0.0,
            max_new_tokens=reason.max_new_tokens if situation.has_llm else 0,
            feedback=settings.feedback and retry,
            prefix=settings.feedback and situation.has_prefix,
            act_steps=settings.act_steps,
            policy="fixed",
        )
