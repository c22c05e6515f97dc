"""Commands about the places of `--on`: cluster check."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from gridloom.cli.options import HomeOption, JsonOption


def check(
    on: Annotated[
        str | None, typer.Option("--on", metavar="WHERE", help="The place: local:N, ray, srun, or a profile file.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run one tiny task on every worker: versions, devices, memory, write access, difference of clocks.

    Exits 1 if a worker cannot be used, or the ledger would lie on a network file system.
    """
    from gridloom.errors import GridloomError

    if on is None:
        raise GridloomError(
            "cluster check needs a place: --on is missing", "for example  gridloom cluster check --on local:2"
        )
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.runtime.execution.checked_cluster import checked_cluster
    from gridloom.stores.workspace import Workspace

    rows, problems = checked_cluster(on, Workspace.find(home))
    if as_json:
        print(json.dumps({"format_version": 1, "workers": rows, "problems": problems}))
    else:
        print_table(rows_table([_shown(row) for row in rows]))
        print("\n".join(problems) if problems else f"{len(rows)} workers, all usable")
    if problems:
        raise typer.Exit(1)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "worker": row["worker"],
        "host": row["host"],
        "gridloom": row["gridloom"],
        "python": row["python"],
        "torch": row["torch"],
        "devices": ", ".join(row["devices"]),
        "memory": f"{row['memory_bytes'] / 1e9:.1f} GB",
        "free disk": f"{row['free_bytes'] / 1e9:.1f} GB",
        "workspace": "seen" if row["sees_workspace"] else "not seen",
        "writes": row["writes"] or "yes",
        "clock": f"{row['ahead_s']:+.1f} s",
    }


def register(app: typer.Typer) -> None:
    """Add the command group to the application."""
    group = typer.Typer(help="Places of `--on`: processes of this machine, Ray, Slurm.", no_args_is_help=True)
    group.command("check")(check)
    group.callback()(lambda: None)
    app.add_typer(group, name="cluster")
