"""Tables for a terminal, from plain rows: columns as wide as their content, numbers aligned to the right."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gridloom.cli.output import exact
from gridloom.wording import duration, printable

if TYPE_CHECKING:
    from rich.table import Table

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


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table of text cells with column names."""

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    """Whether each column is aligned to the right."""
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
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def rows_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> TextTable:
    """Return a table of rows that share columns."""
    names = list(columns) if columns is not None else list(rows[0]) if rows else []
    numeric = (
        bool(rows) and all(isinstance(row.get(name), int | float) or row.get(name) is None for row in rows)
        for name in names
    )
    return TextTable(
        tuple(map(printable, names)),
        tuple(numeric),
        tuple(tuple(cell(row.get(name)) for name in names) for row in rows),
    )


def values_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> TextTable:
    """Return a table of rows of values."""
    numeric = (
        bool(rows) and all(row[index] is None or isinstance(row[index], int | float) for row in rows)
        for index in range(len(names))
    )
    return TextTable(tuple(map(printable, names)), tuple(numeric), tuple(tuple(map(cell, row)) for row in rows))


def graph_table(graph: RunGraph) -> TextTable:
    """Return the table of a graph's stages with inputs and the first digits of keys."""
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
    frozen = f" + {short(cost.frozen_parameters)}" if cost.frozen_parameters else ""
    return {
        "parameters": f"{short(cost.parameters)}{frozen}".strip(),
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
    return rows_table(rows)


def print_table(table: TextTable) -> None:
    """Print a table, with unlimited line length; cells are folded where a terminal is too narrow."""
    lines = table.lines()
    is_terminal = sys.stdout.isatty()
    if is_terminal and max(_width(line) for line in lines) > shutil.get_terminal_size().columns:
        from gridloom.cli.show.terminal import Terminal

        Terminal().print(table)
        return
    if is_terminal and "NO_COLOR" not in os.environ:
        lines[0] = f"\x1b[1m{lines[0]}\x1b[0m"
    print("\n".join(lines), file=exact())
