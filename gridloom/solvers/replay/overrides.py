"""Changes to a recorded plan: `KEY=VALUE` as `gridloom replay --set` takes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from gridloom.errors import ReplayError
from gridloom.solvers.loop.policies import view_window
from gridloom.solvers.types import Plan
from gridloom.wording import did_you_mean

TRM_KEYS = ("views", "act_steps", "halt", "patience")
"""What changes the TRM's part."""
LLM_KEYS = ("temperature", "seed", "max_new_tokens", "prompt", "focus", "feedback", "prefix")
"""What changes the LLaMA's part, and so needs it to run."""


def override_plan(
    plan: Plan, overrides: Sequence[str], views: Sequence[str], *, has_text: bool, live: bool
) -> tuple[Plan, dict[str, tuple[Any, Any]]]:
    """Return the changed plan, and old and new value of each key.

    Args:
        views: those the model knows for the task; `views=N` takes N of them from where the attempt began.
        has_text: whether the attempt had a LLaMA.

    Raises:
        ReplayError: an unknown key, a value of the wrong type, or a key of the LLaMA without `--live`.
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
        if key in LLM_KEYS and not has_text:
            said = f"--set {key} changes nothing: the attempt was made by the TRM alone"
            raise ReplayError(said, "set views or act_steps")
        if key in LLM_KEYS and not live:
            said = f"--set {key} changes what the LLaMA does, which a replay from the record never runs"
            raise ReplayError(said, "add --live")
        values[key] = text if key == "halt" else _value(text)  # its `none` is a word
    if isinstance(values.get("views"), int):
        values["views"] = view_window(views, plan.attempt, values["views"])
    try:
        changed = Plan.model_validate({**plan.model_dump(), **values})
    except ValidationError as error:
        first = error.errors()[0]
        raise ReplayError(f"--set {first['loc'][0]}={first['input']}: {first['msg']}") from error
    return changed, {key: (getattr(plan, key), getattr(changed, key)) for key in values}


def _value(text: str) -> Any:
    if text in ("none", "null", ""):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text
