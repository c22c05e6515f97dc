"""What `gridloom explain STAGE` prints, as lines and as data."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from gridloom.compiler.diff import Change
from gridloom.runtime.explain import StageExplained
from gridloom.runtime.plan import placed


def explained_lines(stage: str, told: StageExplained) -> list[str]:
    """Write the key, what it covers, and what differs from the nearest earlier artifact."""
    lines = [f"{stage}  {told.key}", json.dumps(told.inputs, indent=1, sort_keys=True)]
    near = told.nearest
    if near is None:
        return [*lines, "no earlier artifact of this kind of stage"]
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(near.made_at))
    who = f"{near.stage} of run {near.run_id}, made {made} UTC"
    if not told.changes:
        return [*lines, f"cached: {who}"]
    count = "1 field differs" if len(told.changes) == 1 else f"{len(told.changes)} fields differ"
    return [*lines, f"nearest earlier artifact: {who}, {near.key}; {count}:", *(f"  {placed(c)}" for c in told.changes)]


def explained_data(stage: str, told: StageExplained) -> dict[str, Any]:
    """Return the same as plain data, versioned."""
    near = told.nearest
    return {
        "format_version": 1,
        "stage": stage,
        "key": told.key,
        "inputs": told.inputs,
        "nearest": None
        if near is None
        else {"key": near.key, "stage": near.stage, "run_id": near.run_id, "made_at": near.made_at},
        "changes": [change_data(change) for change in told.changes],
    }


def change_data(change: Change) -> dict[str, Any]:
    """Return one change as plain data."""
    return {
        "field": change.field, "change": type(change).__name__.lower(), "before": getattr(change, "before", None),
        "after": getattr(change, "after", None), "at": asdict(change.span) if change.span else None,
    }  # fmt: skip
