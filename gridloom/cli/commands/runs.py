"""Commands about recorded runs: list them, compare their results."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridloom.cli.options import HomeOption, JsonOption
from gridloom.cli.output import exact
from gridloom.cli.show.comparison import print_comparison

if TYPE_CHECKING:
    from gridloom.runtime.reports.comparison import Result


runs = typer.Typer(help="List the runs in the ledger; compare their results.", rich_markup_mode=None)


@runs.callback(invoke_without_command=True)
def list_runs(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the runs in the ledger, newest first; `gridloom runs compare` tables their results."""
    if context.invoked_subcommand is not None:
        return
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    counts = ("stages", "cached", "failed", "blocked")
    columns = ("run_id", "name", "status", *counts, "device", "started_at", "seconds", "processes", "graph_key")
    rows = [{name: row[name] for name in columns} for row in Ledger(Workspace.find(home)).runs()]
    if as_json:
        print(json.dumps(rows, default=str, indent=1))
    else:
        print_table(rows_table(rows, columns))


@runs.command("compare")
def compare(
    context: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs; of a single run its sweep's nodes.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
) -> None:
    """Table the scores of runs, or of the nodes of one sweep: what differs, results with 95% intervals, cost, time."""
    from gridloom.cli.show.tables import exact_cell
    from gridloom.runtime.reports.comparison import compare_runs
    from gridloom.stores.workspace import Workspace

    before = context.parent.params if context.parent else {}  # options typed before `compare`
    results = compare_runs(run_ids, Workspace.find(home or before.get("home")))
    if as_json or before.get("as_json"):
        print(json.dumps({"format_version": 1, "results": [asdict(one) for one in results]}, indent=1))
        return
    if as_csv:
        rows = [_flat(one) for one in results]
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(exact(), lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            writer.writerow(exact_cell(row.get(name)) for name in names)
        return
    print_comparison(results)


@runs.command("export")
def export(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run with a solve stage.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder to make.")],
    stage: Annotated[str | None, typer.Option("--stage", help="The solve stage, where there are several.")] = None,
    home: HomeOption = None,
) -> None:
    """Write the picks of a solve stage as files of arc-agi-benchmarking, one per task, and read them back."""
    from gridloom.runtime.interop.benchmarking import export_benchmarking
    from gridloom.stores.workspace import Workspace

    before = context.parent.params if context.parent else {}
    number = export_benchmarking(Workspace.find(home or before.get("home")), run_id, folder, stage)
    print(f"wrote {number} tasks to {folder}")


def _flat(one: Result) -> dict[str, Any]:
    """Return one result as columns for CSV."""
    row: dict[str, Any] = {"run_id": one.run_id, "stage": one.stage, "kind": one.kind, "status": one.status}
    row |= {"key": one.key, **one.differs}
    for name, metric in one.metrics.items():
        row[name] = metric.value
        if metric.num_cases is not None:
            row |= {f"{name}_low": metric.low, f"{name}_high": metric.high, f"{name}_cases": metric.num_cases}
    return row | {
        "attempts": one.attempts,
        "llm_tokens": one.llm_tokens,
        "parameters": one.parameters,
        "flops": one.flops,
        "seconds": one.seconds,
    }


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(runs, name="runs")
