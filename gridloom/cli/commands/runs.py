"""Commands about recorded runs: list, show, compare, export, remove."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridloom.cli.complete import complete_runs
from gridloom.cli.options import DryRunOption, HomeOption, JsonOption, LimitOption
from gridloom.cli.output import exact
from gridloom.cli.show.comparison import print_comparison

if TYPE_CHECKING:
    from gridloom.runtime.reports.comparison import Result


runs = typer.Typer(help="List, show, compare, export and remove the runs in the ledger.", rich_markup_mode=None)

RunArg = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's id, or its begin or end: 1xy3nbn8.", autocompletion=complete_runs),
]
RunsArg = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Runs, by id or its end.", autocompletion=complete_runs)
]


@runs.callback(invoke_without_command=True)
def every_run(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the runs in the ledger, newest first; or show, compare, export or remove some."""
    if context.invoked_subcommand is None:
        _list(home, as_json, None)


@runs.command("list")
def list_command(
    context: typer.Context, limit: LimitOption = None, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """List the runs in the ledger, newest first; `run` is the end of an id, which commands take."""
    home, as_json = _typed_before(context, home, as_json)
    _list(home, as_json, limit)


def _typed_before(context: typer.Context, home: Path | None, as_json: bool) -> tuple[Path | None, bool]:
    """Return --home and --json, also where they were typed before the subcommand."""
    before = context.parent.params if context.parent else {}
    return home or before.get("home"), as_json or bool(before.get("as_json"))


def _list(home: Path | None, as_json: bool, limit: int | None) -> None:
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import short_ids
    from gridloom.stores.workspace import Workspace
    from gridloom.wording import duration

    counts = ("stages", "cached", "failed", "blocked")
    columns = ("run_id", "name", "status", *counts, "device", "started_at", "seconds", "processes", "graph_key")
    every = Ledger(Workspace.find(home)).runs()
    rows = [{name: row[name] for name in columns} for row in every[:limit]]
    if as_json:
        print(json.dumps(rows, default=str, indent=1))
        return
    short = short_ids([str(row["run_id"]) for row in every])
    shown = [
        {
            "run": short[row["run_id"]],
            **{name: row[name] for name in ("name", "status", *counts, "device")},
            "started (UTC)": None if row["started_at"] is None else f"{row['started_at']:%Y-%m-%d %H:%M}",
            "time": None if row["seconds"] is None else duration(row["seconds"]),
        }
        for row in rows
    ]
    drop = ("started (UTC)", "time", "stages", "failed", "cached", "device", "blocked")
    print_table(rows_table(shown, drop=drop))
    if len(rows) < len(every):
        print(f"{len(rows):,} of {len(every):,} runs")


@runs.command("show")
def show_command(context: typer.Context, run: RunArg, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show one run: how it was started, each stage with its key and time, and the folders of what it made."""
    from gridloom.cli.show.runs import print_run, run_data
    from gridloom.stores.workspace import Workspace

    home, as_json = _typed_before(context, home, as_json)
    data = run_data(Workspace.find(home), run)
    if as_json:
        print(json.dumps(data, default=str, indent=1))
    else:
        print_run(data)


@runs.command("rm")
def remove_command(
    context: typer.Context,
    run: RunsArg,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove runs from the ledger: attempts, metrics, journals. Artifacts stay: `gridloom artifacts rm`, `gc`."""
    from gridloom.stores.keeping.runs import remove_runs
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run
    from gridloom.stores.workspace import Workspace

    home, as_json = _typed_before(context, home, as_json)
    workspace = Workspace.find(home)
    ledger = Ledger(workspace)
    gone = remove_runs(workspace, list(dict.fromkeys(find_run(one, ledger) for one in run)), dry_run=dry_run)
    if as_json:
        data = [{"run_id": one.run_id, "rows": one.rows, "journal_bytes": one.num_bytes} for one in gone]
        print(json.dumps({"format_version": 1, "removed": not dry_run, "runs": data}, indent=1))
        return
    for one in gone:
        attempts = one.rows.get("attempts", 0)
        counts = f"{sum(one.rows.values()):,} rows, {attempts:,} attempt{'' if attempts == 1 else 's'} among them"
        print(f"run {one.run_id}, {counts}: {'would be removed' if dry_run else 'removed'}")


@runs.command("compare")
def compare(
    context: typer.Context,
    run_ids: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Runs; of a single run its sweep's nodes.", autocompletion=complete_runs),
    ],
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
