"""Commands that show the ledger: the viewer in a browser, a report of a run as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import HomeOption


def view(
    home: HomeOption = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; beyond loopback a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")] = 8642,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Further name of this machine; may be given several times."),
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Demand a token on loopback too, as on a machine that others use.")
    ] = False,
) -> None:
    """Show the ledger in a browser, also while runs write to it. Ctrl-C ends it."""
    from gridloom.optional_packages import needed
    from gridloom.stores.workspace import Workspace

    with needed("starlette", "view", "the viewer"), needed("uvicorn", "view", "the viewer"):
        from gridloom.view.server.serve import serve

    workspace = Workspace.find(home)

    def ready(address: str) -> None:
        print(f"showing {workspace.root} at {address}", flush=True)

    serve(workspace, host=host, port=port, hosts=allow or [], with_token=token, ready=ready)


def report(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The HTML file to write.")],
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run id; default: the one that began last.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write a run as one HTML file: score, gallery, why attempts were rejected, curves, provenance."""
    from gridloom.stores.workspace import Workspace
    from gridloom.view.report.alone import write_file
    from gridloom.view.report.run_report import run_report

    made = run_report(Workspace.find(home), run)
    write_file(out, made)
    size = len(made.encode())
    print(f"wrote {out}, {size / 1e6:.1f} MB" if size >= 1e6 else f"wrote {out}, {size / 1e3:.0f} kB")


def watch(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run id; default: the one that began last.")
    ] = None,
    home: HomeOption = None,
    once: Annotated[bool, typer.Option("--once", help="Print the run once, as without a terminal.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=20, help="Newest attempts to list.")] = 10,
) -> None:
    """Show a run on the terminal as it goes on: stages, figures, newest attempts. Ctrl-C leaves it running."""
    from gridloom.cli.show.terminal import Terminal
    from gridloom.cli.show.watch import watch as follow
    from gridloom.stores.workspace import Workspace
    from gridloom.view.reader import Reader

    reader = Reader(Workspace.find(home))
    try:
        follow(Terminal(), reader, run, once=once, lines=lines)
    finally:
        reader.close()


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    for command in (view, report, watch):
        app.command()(command)
