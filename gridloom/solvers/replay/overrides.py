"""Changes to a recorded plan: `KEY=VALUE`, the argument of `gridloom replay --set`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gridloom.errors import ReplayError
from gridloom.solvers.loop.policies import view_window
from gridloom.solvers.replay.report import Recorded
from gridloom.solvers.types import Plan
from gridloom.wording import did_you_mean

TRM_KEYS = ("views", "act_steps", "halt", "patience")
"""Fields of a plan that change the TRM's run."""
LLM_KEYS = ("temperature", "seed", "max_new_tokens", "prompt", "focus", "feedback", "prefix")
"""Fields of a plan that change the LLaMA's run, and so need `--live`."""

LARGEST = {
    "views": 100_000,
    "act_steps": 100_000,
    "patience": 100_000,
    "seed": 2**63 - 1,
    "max_new_tokens": 1_000_000,
    "focus": 1_000,
}
"""Largest value of each number that is counted up to; recorded plans are not bounded."""


def override_plan(
    plan: Plan, overrides: Sequence[str], views: Sequence[str], *, has_text: bool, live: bool, searched: bool = False
) -> tuple[Plan, dict[str, tuple[Any, Any]]]:
    """Return the changed plan, and old and new value of each key.

    Args:
        views: views of the task in the model; `views=N` takes N of these, from the first view of the attempt on.
        has_text: whether the attempt ran a LLaMA.
        searched: whether the attempt searched programs, which reads none of these fields.

    Raises:
        ReplayError: an unknown key, a value of the wrong type, a key of `LLM_KEYS` without `live`, one without effect.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ReplayError(f"--set {override} is not KEY=VALUE", "for example --set temperature=0.9")
        if key not in TRM_KEYS + LLM_KEYS:
            known = ", ".join(TRM_KEYS + LLM_KEYS)
            raise ReplayError(
                f"a plan has no '{key}' to set", did_you_mean(key, TRM_KEYS + LLM_KEYS, f"it has {known}")
            )
        if searched:
            problem = (
                f"--set {key} changes nothing: the attempt searched programs, which reads no such field of the plan"
            )
            raise ReplayError(
                problem, "change solver.search in the spec and run it again, or name an attempt of a network"
            )
        if key in LLM_KEYS and not has_text:
            problem = f"--set {key} changes nothing: the attempt was made by the TRM alone"
            raise ReplayError(problem, "set views or act_steps")
        if key in LLM_KEYS and not live:
            problem = f"--set {key} changes the LLaMA's run, but a replay from the record does not run the LLaMA"
            raise ReplayError(problem, "add --live")
        value = text if key == "halt" else _value(text)  # `none` is a value of halt, not null
        if isinstance(value, int | float) and abs(value) > LARGEST.get(key, 10**9):
            raise ReplayError(f"--set {key} is too large: {text:.40}", f"at most {LARGEST.get(key, 10**9):,}")
        values[key] = value
    if isinstance(values.get("views"), int):
        values["views"] = view_window(views, plan.attempt, values["views"])
    try:
        changed = Plan.model_validate({**plan.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise ReplayError(f"--set {first['loc'][0]}={first['input']}: {first['msg']}") from error
    return changed, {key: (getattr(plan, key), getattr(changed, key)) for key in values}


def has_searched(recorded: Recorded) -> bool:
    """Return whether an attempt searched programs, which reads no field of the plan that can be set."""
    return "search" in recorded.row.geometry


def changeable(recorded: list[Recorded]) -> list[Recorded]:
    """Return the attempts whose plan can be changed; all of them, to be refused by name, where none can."""
    return [one for one in recorded if not has_searched(one)] or recorded


def _value(text: str) -> Any:
    if text in ("none", "null", ""):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
