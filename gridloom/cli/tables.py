"""Tables for a terminal, from plain rows: columns as wide as they need, numbers to the right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from gridloom.compiler.graph import RunGraph
from gridloom.runtime.plan import Plan


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
            "from": ", ".join(dict.fromkeys(node.inputs.values())) or "-", "key": node.key,
        }
        for node in graph.nodes
    ]
    return rows_table(rows)


def plan_table(plan: Plan) -> Table:
    """Show what a plan will do, stage by stage."""
    rows = [
        {
            "stage": stage.node.name, "kind": stage.node.kind,
            "state": "cached" if stage.state == "cached" else "will run", "why": stage.why,
        }
        for stage in plan.stages
    ]
    return rows_table(rows)


def print_table(table: Table) -> None:
    """Print a table; a pipe or file gets lines as long as they need to be."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, 4000), no_color=True)
        table.expand = False
    console.print(table, highlight=False, soft_wrap=not console.is_terminal)
