"""Tables for a terminal, from plain rows: columns as wide as they need, numbers to the right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from gridloom.compiler.calibration import Calibration, Calibrations
from gridloom.compiler.check_cost import duration
from gridloom.compiler.graph import RunGraph, StageNode
from gridloom.runtime.plan import Plan, PlannedStage


def cell(value: Any) -> str:
    """Write one value for a person: no null, floats to four digits, nested values as JSON."""
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
        return json.dumps(value, default=str)
    return str(value)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> Table:
    """Make a table of rows that share columns."""
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        numeric = bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in names))
    return table


def graph_table(graph: RunGraph) -> Table:
    """Show a graph's stages with inputs and keys."""
    rows = [
        {
            "stage": node.name, "kind": node.kind, "makes": node.produces,
            "from": ", ".join(dict.fromkeys(node.inputs.values())) or "-", **_costs(node), "key": node.key,
        }
        for node in graph.nodes
    ]
    return rows_table(rows)


def expected_seconds(stage: PlannedStage, calibration: Calibration | None) -> float | None:
    """Return the time a stage is expected to take; None when that is not known, or it is cached."""
    if stage.state == "cached" or calibration is None or stage.node.cost is None:
        return None
    return calibration.seconds(stage.node.cost)


def time_line(plan: Plan, calibrations: Calibrations) -> str:
    """Say how long all stages that will run are expected to take, and what the estimates assume."""
    calibration = calibrations.of(plan.graph.device)
    if calibration is None:
        total = calibrations.why_not(plan.graph.device)
    else:
        known = [expected_seconds(stage, calibration) or 0.0 for stage in plan.stages]
        total = f"expected in all: {duration(sum(known))} on {calibration.device}"
    assumes = dict.fromkeys(text for stage in plan.stages if stage.node.cost for text in stage.node.cost.assumes)
    return total + (f"\nassumes: {'; '.join(assumes)}" if assumes else "")


def _short(count: float, unit: str = "") -> str:
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}{unit}"
    return f"{count:.3g} {unit}"


def _costs(node: StageNode) -> dict[str, str]:
    cost = node.cost
    if cost is None:
        return {"parameters": "-", "FLOPs a step": "-", "steps": "-", "peak memory": "-"}
    frozen = f" + {_short(cost.frozen_parameters)}" if cost.frozen_parameters else ""
    return {
        "parameters": f"{_short(cost.parameters)}{frozen}".strip(),
        "FLOPs a step": _short(sum(cost.flops.values())).strip(),
        "steps": f"{cost.num_steps:,}", "peak memory": _short(cost.peak_bytes, "B"),
    }


def plan_table(plan: Plan, calibrations: Calibrations) -> Table:
    """Show what a plan will do, stage by stage, and what that is expected to cost."""
    calibration = calibrations.of(plan.graph.device)
    times = [expected_seconds(stage, calibration) for stage in plan.stages]
    rows = [
        {
            "stage": stage.node.name, "kind": stage.node.kind,
            "state": "cached" if stage.state == "cached" else "will run", "why": stage.why,
            **_costs(stage.node), "time": "-" if seconds is None else duration(seconds),
        }
        for stage, seconds in zip(plan.stages, times, strict=True)
    ]
    return rows_table(rows)


def print_table(table: Table) -> None:
    """Print a table; a pipe or file gets lines as long as they need to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 4000), no_color=True)
        table.expand = False
    console.print(table, highlight=False, soft_wrap=not console.is_terminal)
