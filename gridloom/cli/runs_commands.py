"""Commands about recorded runs: list them, compare their results."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridloom.cli.options import HomeOption, JsonOption
from gridloom.runtime.intervals import share_text

if TYPE_CHECKING:
    from gridloom.runtime.comparison import Metric, Result

runs = typer.Typer(help="List the runs in the ledger; compare their results.", rich_markup_mode=None)
MAX_COLUMNS = 6
"""Differing fields that a table shows; `--json` and `--csv` give all."""


@runs.callback(invoke_without_command=True)
def list_runs(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the runs in the ledger, newest first; `gridloom runs compare` tables their results."""
    if context.invoked_subcommand is not None:
        return
    from gridloom.cli.tables import print_table, rows_table
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    columns = ("run_id", "name", "status", "stages", "cached", "failed", "blocked", "device", "started_at", "graph_key")
    rows = [{name: row[name] for name in columns} for row in Ledger(Workspace.find(home)).runs()]
    if as_json:
        print(json.dumps(rows, default=str, indent=1))
    else:
        print_table(rows_table(rows, columns))


@runs.command("compare")
def compare(
    context: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; of one alone the nodes of its sweep.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
) -> None:
    """Table the scores of runs, or of the nodes of one sweep: what differs, results with 95% intervals, cost, time."""
    from gridloom.cli.tables import exact_cell
    from gridloom.runtime.comparison import compare_runs
    from gridloom.stores.workspace import Workspace

    before = context.parent.params if context.parent else {}  # options typed before `compare`
    results = compare_runs(run_ids, Workspace.find(home or before.get("home")))
    if as_json or before.get("as_json"):
        print(json.dumps({"format_version": 1, "results": [asdict(one) for one in results]}, indent=1))
        return
    if as_csv:
        rows = [_flat(one) for one in results]
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow(exact_cell(row.get(name)) for name in names)
        return
    print_comparison(results)


def print_comparison(results: tuple[Result, ...]) -> None:
    """Print results as a table, and what its figures are."""
    from gridloom.cli.tables import print_table, rows_table

    print_table(rows_table(_shown(results)))
    hidden = len(results[0].differs) - MAX_COLUMNS
    if hidden > 0:
        print(f"{hidden} more fields differ: --json shows all")
    print("intervals: Wilson, 95%. Time and FLOPs: of each result and everything it is made from.")


@runs.command("export")
def export(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run with a solve stage.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder to make.")],
    stage: Annotated[str | None, typer.Option("--stage", help="The solve stage, where there are several.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a solve's picks as arc-agi-benchmarking's files, one a task, and read them back."""
    from gridloom.solvers.benchmarking import export_benchmarking
    from gridloom.stores.workspace import Workspace

    before = context.parent.params if context.parent else {}
    number = export_benchmarking(Workspace.find(home or before.get("home")), run_id, folder, stage)
    print(f"wrote {number} tasks to {folder}")


def _shown(results: tuple[Result, ...]) -> list[dict[str, Any]]:
    """Return rows for a terminal; columns in which all results have nothing are left out."""
    from gridloom.cli.tables import short
    from gridloom.wording import duration

    several = len({one.run_id for one in results}) > 1
    metrics = list(dict.fromkeys(name for one in results for name in one.metrics))
    paths = list(results[0].differs)[:MAX_COLUMNS]
    names = _short_names(paths)
    rows: list[dict[str, Any]] = []
    for one in results:
        row: dict[str, Any] = {"run": one.run_id} if several else {}
        row["stage"] = one.stage
        row["status"] = one.status
        row |= {names[path]: _as_set(one.differs[path]) for path in paths}
        row |= {name: _metric(one.metrics.get(name)) for name in metrics}
        row |= {
            "attempts": one.attempts,
            "LLaMA tokens": one.llm_tokens,
            "parameters": None if one.parameters is None else short(one.parameters).strip(),
            "FLOPs": None if one.flops is None else short(one.flops).strip(),
            "time": None if one.seconds is None else duration(one.seconds),
        }
        rows.append(row)
    empty = {name for name in rows[0] if name not in names.values() and all(row[name] is None for row in rows)}
    return [{name: value for name, value in row.items() if name not in empty} for row in rows]


def _as_set(value: Any) -> Any:
    """Return a field's value without the parts of it that are not set."""
    if isinstance(value, dict):
        return {name: _as_set(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_as_set(part) for part in value]
    return value


def _short_names(paths: list[str]) -> dict[str, str]:
    """Return the shortest ends of paths that tell them apart: `optimizer.lr` becomes `lr` where no other ends so."""
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        found[path] = next(end for end in ends if sum(f".{p}".endswith(f".{end}") for p in paths) == 1)
    return found


def _metric(metric: Metric | None) -> str | None:
    if metric is None:
        return None
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4g}"
    return share_text(metric.value, (metric.low, metric.high))


def _flat(one: Result) -> dict[str, Any]:
    """Return one result as columns for CSV."""
    row: dict[str, Any] = {"run_id": one.run_id, "stage": one.stage, "kind": one.kind, "status": one.status}
    row |= {"key": one.key, **one.differs}
    for name, metric in one.metrics.items():
        row[name] = metric.value
        if metric.num_cases is not None:
            row |= {f"{name}_low": metric.low, f"{name}_high": metric.high, f"{name}_cases": metric.num_cases}
    return row | {
        "attempts": one.attempts, "llm_tokens": one.llm_tokens, "parameters": one.parameters, "flops": one.flops,
        "seconds": one.seconds,
    }  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(runs, name="runs")
