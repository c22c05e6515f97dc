"""Commands over the ledger: sql, attempts, attempt, replay, gc."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gridloom.cli.options import HomeOption, JsonOption, QuietOption, RunOption, StageOption
from gridloom.cli.output import exact
from gridloom.errors import ReplayError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa


def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Any reading SQL; tables and views: docs/ledger.md.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
    parquet: Annotated[Path | None, typer.Option("--parquet", help="Write the rows to this Parquet file.")] = None,
) -> None:
    """Query the ledger, read-only; works while a run is writing."""
    from gridloom.cli.show.tables import exact_cell, print_table, rows_table
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    table = ledger.query(query)
    for warning in ledger.warnings:
        print(warning, file=sys.stderr)
    if parquet is not None:
        _write_parquet(table, parquet)
        print(f"wrote {table.num_rows:,} rows to {parquet}")
        return
    rows = table.to_pylist()
    if as_json:
        print(json.dumps(rows, default=str, indent=1))
    elif as_csv:
        writer = csv.writer(exact(), lineterminator="\n")
        writer.writerow(table.column_names)
        writer.writerows([exact_cell(row[name]) for name in table.column_names] for row in rows)
    else:
        print_table(rows_table(rows, table.column_names))
        print(f"({len(rows)} row{'' if len(rows) == 1 else 's'})")


def _write_parquet(table: pa.Table, path: Path) -> None:
    """Write a table whole or not at all. Raises StoreError when the file cannot be written."""
    import pyarrow.parquet

    from gridloom.stores.files.write_aside import replacing

    try:
        with replacing(path) as aside:
            pyarrow.parquet.write_table(table, aside)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        raise StoreError(message, "name a file in a folder that can be written") from error


def attempts(
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only attempts that are wrong by the score, or rejected where none is.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the attempts of a run."""
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run, refuse_unknown
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    run = ledger.latest_run() if run is None else find_run(run, ledger)
    refuse_unknown(ledger, run, stage, task)
    rows = ledger.attempts(run, stage=stage, task_id=task, failed=failed)
    columns = ("name", "stage", "verdict", "score", "solved", "llm_tokens", "seconds", "feedback")
    if as_json:
        print(json.dumps(rows, default=str, indent=1))
    else:
        print_table(rows_table([row | {"feedback": _clipped(row["feedback"])} for row in rows], columns))
        print(f"{len(rows)} attempts. `gridloom attempt NAME` shows one whole.")


def _clipped(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def attempt(
    words: Annotated[list[str], typer.Argument(metavar="NAME | diff NAME NAME", help="An attempt: 0934a4d8.7@4fc1.")],
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one attempt whole: grids side by side, prompt, text, verdict, timings; or the difference of two."""
    from gridloom.cli.show.attempts import attempt_diff_view, attempt_view
    from gridloom.cli.show.terminal import Terminal
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    if words[0] == "diff":
        if len(words) != 3:
            raise typer.BadParameter("`gridloom attempt diff` takes two attempts")
        pair = [ledger.attempt(word, run, stage) for word in words[1:]]
        Terminal().print(attempt_diff_view(pair[0], pair[1]))
    elif len(words) != 1:
        raise typer.BadParameter("`gridloom attempt` takes one attempt")
    elif as_json:
        print(json.dumps(ledger.attempt(words[0], run, stage), default=_jsonable, indent=1))
    else:
        Terminal().print(attempt_view(ledger.attempt(words[0], run, stage)))


def _jsonable(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def replay(
    attempt_id: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Such as 0934a4d8.7@4fc1.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Replay all failed attempts of the run.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Run the LLaMA too; name the first node that diverges.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the plan: records a fork.")
    ] = None,
    from_node: Annotated[
        str | None,
        typer.Option("--from-node", metavar="NODE", help="Begin at reason (as --live), adapt, propose or verify."),
    ] = None,
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    quiet: QuietOption = False,
) -> None:
    """Re-execute attempts from their records and compare bit for bit. Exits 1 when something is not equal."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.solvers.replay.replay import replay as replay_one
    from gridloom.solvers.replay.replay import replay_failed
    from gridloom.stores.workspace import Workspace

    if failed == (attempt_id is not None):
        raise ReplayError(
            "no attempt to replay is given: name one, or use --failed for all", "`gridloom attempts` lists them"
        )
    console, workspace = Terminal(), Workspace.find(home)
    if attempt_id is not None:
        report = replay_one(
            workspace, attempt_id, run_id=run, stage=stage, live=live, overrides=overrides or [], from_node=from_node
        )
        console.print(str(report), highlight=False, markup=False)
        raise typer.Exit(0 if report.equal or overrides else 1)
    reports = []
    shown = reporter(console, quiet)
    for report in replay_failed(
        workspace, run_id=run, stage=stage, live=live, overrides=overrides or [], from_node=from_node, progress=shown
    ):
        reports.append(report)
        if not quiet:
            state = "bit-equal" if report.equal else f"diverges at {report.first_divergence}"
            if report.fork_id:
                state = f"{report.verdict} {report.score:.2f}, recorded as {report.fork_name}"
            console.print(f"{report.name:<19} {report.stage}: {state}, {report.seconds:.1f} s", highlight=False)
    if overrides:
        accepted = sum(report.verdict == "accepted" for report in reports)
        console.print(f"{len(reports)} failed attempts forked, {accepted} of the forks accepted")
        return
    equal = sum(report.equal for report in reports)
    console.print(f"{equal} of {len(reports)} failed attempts replayed bit-equal")
    raise typer.Exit(0 if equal == len(reports) else 1)


def gc(
    journals: Annotated[
        bool,
        typer.Option("--journals", help="Also journals that are wholly in the ledger, which is then the only copy."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, print what would be removed.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what killed processes left: artifacts that were never published; and journals on request."""
    from gridloom.stores.leftovers import collect
    from gridloom.stores.workspace import Workspace

    found = collect(Workspace.find(home), journals=journals, dry_run=dry_run)
    if as_json:
        print(
            json.dumps(
                {
                    "format_version": 1,
                    "removed": not dry_run,
                    **{
                        one.kind: {"number": one.number, "bytes": one.num_bytes, "removed": one.removed}
                        for one in found
                    },
                },
                indent=1,
            )
        )
        return
    for one in found:
        print(one)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    for command in (sql, attempts, attempt, replay, gc):
        app.command()(command)
