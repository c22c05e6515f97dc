"""Tables for a terminal, from plain rows: columns as wide as their content, numbers aligned to the right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gridloom.cli.show.text_table import TextTable
from gridloom.cli.show.text_table import folded as folded
from gridloom.cli.show.text_table import print_table as print_table
from gridloom.wording import duration, printable

if TYPE_CHECKING:
    from gridloom.compiler.device_speeds import MachineSpeeds
    from gridloom.compiler.graph import RunGraph, StageNode
    from gridloom.runtime.planning.plan import RunPlan


def cell(value: Any) -> str:
    """Return one value as text on one line: `-` for null, floats to four digits, nested values as JSON."""
    return printable(_text(value))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list | dict | tuple):
        return json.dumps(value, default=lambda item: item.hex() if isinstance(item, bytes) else str(item))
    return str(value)


def exact_cell(value: Any) -> str:
    """Return one value for CSV: empty for null, floats with every digit, bytes in hex, times with their fractions."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return str(value)
    return _text(value)


def rows_table(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str] | None = None,
    *,
    prose: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> TextTable:
    """Return a table of rows that share columns.

    Args:
        prose: columns that a narrow terminal folds between words.
        drop: columns that a narrow terminal leaves out, the last one first.
    """
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    numeric = (
        bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        for name in names
    )
    return TextTable(
        tuple(map(printable, names)),
        tuple(numeric),
        tuple(tuple(cell(row.get(name)) for name in names) for row in rows),
        frozenset(prose),
        tuple(drop),
    )


def values_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> TextTable:
    """Return a table of rows of values."""
    numeric = (
        bool(rows) and all(row[index] is None or isinstance(row[index], int | float) for row in rows)
        for index in range(len(names))
    )
    return TextTable(tuple(map(printable, names)), tuple(numeric), tuple(tuple(map(cell, row)) for row in rows))


def short_key(key: str) -> str:
    """Return a key with its first eight digits, as commands take it: `gl1:ff221531`."""
    version, colon, digits = key.partition(":")
    return f"{version}{colon}{digits[:8]}"


def graph_table(graph: RunGraph) -> TextTable:
    """Return the table of a graph's stages with inputs and the first digits of keys."""
    rows = [
        {
            "stage": node.name,
            "kind": node.kind,
            "makes": node.produces,
            "from": ", ".join(dict.fromkeys(node.inputs.values())) or "-",
            "key": short_key(node.key),
        }
        for node in graph.nodes
    ]
    return rows_table(rows, drop=("makes", "kind", "key"))


def time_line(plan: RunPlan, machine: MachineSpeeds, device: str | None = None) -> str:
    """Return the expected time of all stages that will run and, on a second line, the assumptions of the estimates."""
    speeds = machine.of(device or plan.graph.device)
    if speeds is None:
        total = machine.why_not(device or plan.graph.device)
    else:
        known = [stage.expected_seconds(speeds) or 0.0 for stage in plan.stages]
        total = f"expected in all: {duration(sum(known))} on {speeds.device}"
    assumes = dict.fromkeys(text for stage in plan.stages if stage.node.cost for text in stage.node.cost.assumes)
    return total + (f"\nassumes: {'; '.join(assumes)}" if assumes else "")


def short(count: float, unit: str = "") -> str:
    """Return a large number with three digits and a prefix: '331 k', '18.3 G'."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}{unit}"
    return f"{count:.3g} {unit}"


def _costs(node: StageNode) -> dict[str, str]:
    cost = node.cost
    if cost is None:
        return {"parameters": "-", "FLOPs a step": "-", "steps": "-", "peak memory": "-"}
    counts = [short(count).strip() for count in (cost.parameters, cost.frozen_parameters) if count]
    return {
        "parameters": " + ".join(counts) or "0",
        "FLOPs a step": short(sum(cost.flops.values())).strip(),
        "steps": f"{cost.num_steps:,}",
        "peak memory": short(cost.peak_bytes, "B"),
    }


def plan_table(plan: RunPlan, machine: MachineSpeeds, device: str | None = None) -> TextTable:
    """Return the table of a plan: state, reason and cost of each stage; times are for `device` or the spec's."""
    speeds = machine.of(device or plan.graph.device)
    times = [stage.expected_seconds(speeds) for stage in plan.stages]
    rows = [
        {
            "stage": stage.node.name,
            "kind": stage.node.kind,
            "state": "cached" if stage.state == "cached" else "will run",
            "why": stage.why,
            **_costs(stage.node),
            "time": "-" if seconds is None else duration(seconds),
        }
        for stage, seconds in zip(plan.stages, times, strict=True)
    ]
    drop = ("time", "peak memory", "kind", "parameters", "steps", "FLOPs a step")
    return rows_table(rows, prose=("why",), drop=drop)
