"""Command about other packages: plugins."""

from __future__ import annotations

import json

import typer

from gridloom.cli.options import JsonOption

# a group of its own: an app whose only member is a plain command would take its name for an argument
plugins = typer.Typer(subcommand_metavar="", rich_markup_mode=None)


@plugins.callback(invoke_without_command=True)
def list_plugins(as_json: JsonOption = False) -> None:
    """List models, stages, policies, verifiers and proposers that other packages bring, and why one cannot be used.

    The exit status is 0 also where one cannot be used: only a spec that names it is affected.
    """
    from gridloom.runtime.doctor.installed import REGISTRIES, installed_kinds

    found = installed_kinds()
    if as_json:
        print(json.dumps([kind._asdict() for kind in found], indent=1))
        return
    if not found:
        groups = ", ".join(registry.group for registry in REGISTRIES)
        print(f"no other package brings kinds (entry-point groups {groups})")
        return
    from gridloom.cli.show.tables import print_table, rows_table

    print_table(
        rows_table(
            [
                {
                    "group": kind.group,
                    "name": kind.name,
                    "package": f"{kind.package} {kind.version}",
                    "place": kind.place,
                    "state": "cannot be used" if kind.problem else "ok",
                }
                for kind in found
            ]
        )
    )
    for kind in found:
        if kind.problem:
            print(f"{kind.name}: {kind.problem}")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.add_typer(plugins, name="plugins")
