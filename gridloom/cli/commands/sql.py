"""Command that queries the ledger: sql, of one query, of standard input, or as a shell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import HomeOption, JsonOption
from gridloom.cli.show.answers import print_answer, print_warnings, write_parquet


def sql(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY",
            help="Any reading SQL; none: standard input, or a shell on a terminal. Tables: `.tables` in the shell.",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV.")] = False,
    parquet: Annotated[
        str | None, typer.Option("--parquet", metavar="FILE", help="Write the rows to this Parquet file.")
    ] = None,
) -> None:
    """Query the ledger, read-only; works while a run is writing."""
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    if as_json + as_csv + (parquet is not None) > 1:
        raise typer.BadParameter("--json, --csv and --parquet are three forms of one answer: choose one")
    if parquet == "":
        raise typer.BadParameter("--parquet needs the name of a file, such as rows.parquet")
    ledger = Ledger(Workspace.find(home))
    if query is None and sys.stdin.isatty() and parquet is None:
        from gridloom.cli.sql_shell import SqlShell

        SqlShell(ledger, as_json=as_json, as_csv=as_csv).cmdloop()
        return
    text = sys.stdin.read() if query in (None, "-") else str(query)
    if parquet is not None:
        table = ledger.query(text)
        print_warnings(ledger)
        write_parquet(table, Path(parquet))
        print(f"wrote {table.num_rows:,} row{'' if table.num_rows == 1 else 's'} to {parquet}")
        return
    answer = ledger.answer(text)
    print_warnings(ledger)
    print_answer(answer, as_json, as_csv)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command()(sql)
