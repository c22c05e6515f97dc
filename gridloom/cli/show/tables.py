"""Tables for a terminal, from plain rows: columns as wide as they need, numbers to the right."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gridloom.wording import duration

if TYPE_CHECKING:
    from rich.table import Table

    from gridloom.compiler.device_speeds import Calibration, Calibrations
    from gridloom.compiler.graph import RunGraph, StageNode
    from gridloom.runtime.planning.plan import PlannedStage, RunPlan


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


def exact_cell(value: Any) -> str:
    """Write one value for CSV: nothing for null, floats with every digit."""
    return "" if value is None else repr(value) if isinstance(value, float) else cell(value)


@dataclass(frozen=True, slots=True)
class TextTable:
    """Cells as they are shown, under the names of their columns."""

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    """Which columns stand to the right."""
    cells: tuple[tuple[str, ...], ...]

    def lines(self) -> list[str]:
        """Return the header and the rows with columns aligned, none of them cut or folded."""
        rows = [self.names, *self.cells]
        widths = [max(_width(row[index]) for row in rows) for index in range(len(self.names))]
        return ["  ".join(self._padded(row, widths)).rstrip() for row in rows]

    def _padded(self, row: tuple[str, ...], widths: list[int]) -> list[str]:
        spaces = [" " * (width - _width(text)) for text, width in zip(row, widths, strict=True)]
        return [f"{s}{t}" if right else f"{t}{s}" for t, s, right in zip(row, spaces, self.numeric, strict=True)]

    def __rich__(self) -> Table:
        """Return the table for rich, which folds what is too wide."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name, right in zip(self.names, self.numeric, strict=True):
            table.add_column(name, justify="right" if right else "left", overflow="fold")
        for row in self.cells:
            table.add_row(*row)
        return table


def _width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> TextTable:
    """Make a table of rows that share columns."""
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    numeric = (
        bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        for name in names
    )
    return TextTable(tuple(names), tuple(numeric), tuple(tuple(cell(row.get(name)) for name in names) for row in rows))


def graph_table(graph: RunGraph) -> TextTable:
    """Show a graph's stages with inputs and the first digits of keys."""
    rows = [
        {
            "stage": node.name,
            "kind": node.kind,
            "makes": node.produces,
            "from": ", ".join(dict.fromkeys(node.inputs.values())) or "-",
            "key": node.key[:12],
        }
        for node in graph.nodes
    ]
    return rows_table(rows)


def expected_seconds(stage: PlannedStage, calibration: Calibration | None) -> float | None:
    """Return the time a stage is expected to take; None when that is not known, or it is cached."""
    if stage.state == "cached" or calibration is None or stage.node.cost is None:
        return None
    return calibration.seconds(stage.node.cost)


def time_line(plan: RunPlan, calibrations: Calibrations, device: str | None = None) -> str:
    """Say how long all stages that will run are expected to take, and what the estimates assume."""
    calibration = calibrations.of(device or plan.graph.device)
    if calibration is None:
        total = calibrations.why_not(device or plan.graph.device)
    else:
        known = [expected_seconds(stage, calibration) or 0.0 for stage in plan.stages]
        total = f"expected in all: {duration(sum(known))} on {calibration.device}"
    assumes = dict.fromkeys(text for stage in plan.stages if stage.node.cost for text in stage.node.cost.assumes)
    return total + (f"\nassumes: {'; '.join(assumes)}" if assumes else "")


def short(count: float, unit: str = "") -> str:
    """Write a large number with three digits and a prefix: '331 k', '18.3 G'."""
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {prefix}{unit}"
    return f"{count:.3g} {unit}"


def _costs(node: StageNode) -> dict[str, str]:
    cost = node.cost
    if cost is None:
        return {"parameters": "-", "FLOPs a step": "-", "steps": "-", "peak memory": "-"}
    frozen = f" + {short(cost.frozen_parameters)}" if cost.frozen_parameters else ""
    return {
        "parameters": f"{short(cost.parameters)}{frozen}".strip(),
        "FLOPs a step": short(sum(cost.flops.values())).strip(),
        "steps": f"{cost.num_steps:,}",
        "peak memory": short(cost.peak_bytes, "B"),
    }


def plan_table(plan: RunPlan, calibrations: Calibrations, device: str | None = None) -> TextTable:
    """Show what a plan will do, stage by stage, and what that is expected to cost on the spec's device or another."""
    calibration = calibrations.of(device or plan.graph.device)
    times = [expected_seconds(stage, calibration) for stage in plan.stages]
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
    return rows_table(rows)


def print_table(table: TextTable) -> None:
    """Print a table: lines as long as they need to be, but cells folded where a terminal is too narrow for them."""
    lines = table.lines()
    is_terminal = sys.stdout.isatty()
    if is_terminal and max(_width(line) for line in lines) > shutil.get_terminal_size().columns:
        from rich.console import Console

        Console().print(table, highlight=False)
        return
    if is_terminal and "NO_COLOR" not in os.environ:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    print("\n".join(lines))
