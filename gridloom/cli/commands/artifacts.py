"""Commands about what runs made and left: artifacts list|path|rm, gc."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gridloom.cli.complete import complete_artifacts
from gridloom.cli.options import DryRunOption, HomeOption, JsonOption, LimitOption

if TYPE_CHECKING:
    from gridloom.stores.keeping.artifacts import Listed

artifacts = typer.Typer(help="Artifacts that stages made.", no_args_is_help=True, rich_markup_mode=None)

WhatArg = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A key, the begin of its digits, or a stage's name: of a stage that of the newest run with it.",
        autocompletion=complete_artifacts,
    ),
]


def _size(text: str | int) -> int:
    from gridloom.stores.keeping.sizes import size_bytes

    try:
        return size_bytes(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@artifacts.command("list")
def list_command(
    stage: Annotated[str | None, typer.Option("--stage", metavar="STAGE", help="Only of this stage.")] = None,
    limit: LimitOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the artifacts of the workspace, the newest first."""
    from datetime import UTC, datetime

    from gridloom.cli.show.tables import print_table, rows_table, short, short_key
    from gridloom.stores.keeping.artifacts import list_artifacts
    from gridloom.stores.workspace import Workspace

    every = [one for one in list_artifacts(Workspace.find(home)) if stage is None or one.stage == stage]
    found = every[:limit]
    if as_json:
        print(json.dumps([_data(one) for one in found], indent=1))
        return
    rows = [
        {
            "key": short_key(one.key),
            "stage": one.stage,
            "kind": one.kind,
            "size": short(one.num_bytes, "B"),
            "made": datetime.fromtimestamp(one.created_at, UTC).strftime("%Y-%m-%d %H:%M"),
            "run": one.run_id,
        }
        for one in found
    ]
    columns = ("key", "stage", "kind", "size", "made", "run")
    print_table(rows_table(rows, columns, drop=("made", "run", "kind")))
    total = short(sum(one.num_bytes for one in every), "B")
    of = f"{len(found)} of {len(every)}" if len(found) < len(every) else str(len(every))
    print(f"{of} artifact{'' if len(every) == 1 else 's'}, {total} in all; `gridloom artifacts path KEY` says where")


def _data(one: Listed) -> dict[str, Any]:
    return {
        "key": one.key,
        "type": one.type,
        "kind": one.kind,
        "stage": one.stage,
        "run_id": one.run_id,
        "bytes": one.num_bytes,
        "created_at": one.created_at,
        "path": str(one.path),
    }


@artifacts.command("path")
def path_command(what: WhatArg, home: HomeOption = None) -> None:
    """Print the folder of an artifact, for use in other commands."""
    from gridloom.stores.keeping.artifacts import find_artifact
    from gridloom.stores.workspace import Workspace

    print(find_artifact(what, Workspace.find(home)).path)


@artifacts.command("rm")
def remove_command(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...", help="As of `artifacts path`; several are possible.", autocompletion=complete_artifacts
        ),
    ],
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove artifacts; what is recorded of them stays, and a run that needs one makes it again."""
    from gridloom.cli.show.tables import short
    from gridloom.stores.keeping.artifacts import find_artifact, remove_artifacts
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    gone = list({one.key: one for one in (find_artifact(name, workspace) for name in what)}.values())
    if not dry_run:
        remove_artifacts(workspace, gone)
    if as_json:
        print(json.dumps({"format_version": 1, "removed": not dry_run, "artifacts": [*map(_data, gone)]}, indent=1))
        return
    for one in gone:
        done = "would be removed" if dry_run else "removed"
        print(f"{one.key} of stage {one.stage}, {short(one.num_bytes, 'B')}: {done}")


def gc(
    journals: Annotated[
        bool,
        typer.Option("--journals", help="Also journals that are wholly in the ledger, which is then the only copy."),
    ] = False,
    max_size: Annotated[
        int | None,
        typer.Option(
            "--max-size",
            metavar="SIZE",
            parser=_size,
            help="Also the oldest artifacts, until the others take at most this: 20GB, 500MB.",
        ),
    ] = None,
    dry_run: DryRunOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove what killed processes left: artifacts that were never published; on request journals and old artifacts."""
    from gridloom.cli.show.tables import short
    from gridloom.stores.keeping.artifacts import over_budget, remove_artifacts
    from gridloom.stores.leftovers import collect
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    gone = [] if max_size is None else over_budget(workspace, max_size)
    if not dry_run:
        remove_artifacts(workspace, gone)
    found = collect(workspace, journals=journals, dry_run=dry_run)
    if as_json:
        data: dict[str, Any] = {"format_version": 1, "removed": not dry_run}
        data |= {one.kind: {"number": one.number, "bytes": one.num_bytes, "removed": one.removed} for one in found}
        if max_size is not None:
            data["artifacts"] = [*map(_data, gone)]
        print(json.dumps(data, indent=1))
        return
    for leftover in found:
        print(leftover)
    if max_size is not None:
        freed = short(sum(one.num_bytes for one in gone), "B")
        done = "would be removed" if dry_run else "removed"
        within = f"artifacts take at most {short(max_size, 'B')}"
        print(f"{len(gone)} oldest artifact{'' if len(gone) == 1 else 's'}, {freed}: {done}" if gone else within)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(artifacts, name="artifacts")
    app.command()(gc)
