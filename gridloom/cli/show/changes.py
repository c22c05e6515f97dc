"""Differences of two specs, graphs or runs, as lines and as data."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from gridloom.compiler.diff import StageChange, diff_graphs
from gridloom.compiler.diff_fields import FieldChange, Side, diff_sides
from gridloom.diagnostics import Span
from gridloom.runtime.planning.explain import StageExplanation
from gridloom.runtime.planning.plan import placed
from gridloom.runtime.planning.plan_report import change_data
from gridloom.wording import listed


def diff_lines(before: Side, after: Side) -> list[str]:
    """Return the lines of a difference: fields with position and effect, stages with the reason, and a total."""
    fields, stages = diff_sides(before, after), diff_graphs(before.graph, after.graph)
    lines = [_field_line(change) for change in fields]
    lines += [_stage_line(change) for change in stages]
    if not lines:
        return [f"no difference: {len(after.graph.nodes)} stages with the same keys"]
    anew = sum(change.runs_anew for change in stages)
    total = len(after.graph.nodes)
    lines.append(
        f"{len(fields)} field{'' if len(fields) == 1 else 's'} differ{'s' if len(fields) == 1 else ''}; "
        + (f"{anew} of {total} stages would run anew" if anew else f"all {total} stages keep their keys")
    )
    return lines


def _field_line(change: FieldChange) -> str:
    at = change.before_at if change.change == "removed" else change.after_at
    effect = f"alters {listed(change.alters, 6)}" if change.alters else "alters no key"
    return f"{change}{f'  ({at})' if at else ''}  {effect}"


def _stage_line(change: StageChange) -> str:
    if change.change == "renamed":
        return f"stage {change.stage}: was {change.because[0]}, same key"
    because = f", {', '.join(change.because)} differ" if change.because else ""
    return f"stage {change.stage}: {change.change}{because}"


def diff_data(before: Side, after: Side) -> dict[str, Any]:
    """Return plain data, versioned, with the content of the lines."""
    return {
        "format_version": 1,
        "a": _side(before),
        "b": _side(after),
        "fields": [
            {
                "path": change.path,
                "change": change.change,
                "before": change.before,
                "after": change.after,
                "alters": list(change.alters),
                "before_at": _span(change.before_at),
                "after_at": _span(change.after_at),
            }
            for change in diff_sides(before, after)
        ],
        "stages": [
            {
                "stage": change.stage,
                "change": change.change,
                "runs_anew": change.runs_anew,
                "because": list(change.because),
            }
            for change in diff_graphs(before.graph, after.graph)
        ],
    }


def _side(side: Side) -> dict[str, str]:
    return {"what": side.shown, "kind": side.kind, "name": side.graph.name, "key": side.graph.key}


def _span(span: Span | None) -> dict[str, Any] | None:
    return None if span is None else asdict(span)


def explained_lines(stage: str, explained: StageExplanation) -> list[str]:
    """Return the lines of a key: its inputs, and the differences from the nearest earlier artifact."""
    lines = [f"{stage}  {explained.key}", json.dumps(explained.inputs, indent=1, sort_keys=True)]
    near = explained.nearest
    if near is None:
        return [*lines, "no earlier artifact of this kind of stage"]
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(near.made_at))
    who = f"{near.stage} of run {near.run_id}, made {made} UTC"
    if not explained.changes:
        return [*lines, f"cached: {who}"]
    count = "1 field differs" if len(explained.changes) == 1 else f"{len(explained.changes)} fields differ"
    return [
        *lines,
        f"nearest earlier artifact: {who}, {near.key}; {count}:",
        *(f"  {placed(c)}" for c in explained.changes),
    ]


def explained_data(stage: str, explained: StageExplanation) -> dict[str, Any]:
    """Return plain data, versioned, with the content of the lines."""
    near = explained.nearest
    return {
        "format_version": 1,
        "stage": stage,
        "key": explained.key,
        "inputs": explained.inputs,
        "nearest": None
        if near is None
        else {"key": near.key, "stage": near.stage, "run_id": near.run_id, "made_at": near.made_at},
        "changes": [change_data(change) for change in explained.changes],
    }
