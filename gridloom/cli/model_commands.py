"""Commands about weights and the machine: models list|pull|verify, doctor."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from gridloom.cli.options import HomeOption, JsonOption, QuietOption

models = typer.Typer(help="Managed language models.", no_args_is_help=True, rich_markup_mode=None)

NameArg = Annotated[str, typer.Argument(metavar="NAME", help="A managed model, see `gridloom models list`.")]


@models.command("list")
def list_command(as_json: JsonOption = False) -> None:
    """List managed models and whether they are ready on this machine."""
    from gridloom.cli.tables import print_table, rows_table
    from gridloom.runtime.models.managed import list_models

    rows = [
        {
            "name": model.name, "ready": model.ready, "parameters": model.parameters, "licence": model.licence,
            "path": str(model.path) if model.ready else None,
        }
        for model in list_models()
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows_table(rows))


@models.command("pull")
def pull(name: NameArg, quiet: QuietOption = False) -> None:
    """Fetch a managed model, check it and convert it once to safetensors."""
    from rich.console import Console

    from gridloom.cli.progress import reporter
    from gridloom.runtime.models.managed import pull as pull_model

    path = pull_model(name, reporter(Console(), quiet))
    print(f"{name} is ready in {path}")


@models.command("verify")
def verify(name: NameArg) -> None:
    """Check every file of a pulled model against its recorded hash."""
    from gridloom.runtime.models.managed import verify as verify_model

    path = verify_model(name)
    print(f"{name} is whole: {path}")


def doctor(
    home: HomeOption = None,
    as_json: JsonOption = False,
    measure: Annotated[bool, typer.Option("--calibrate", help="Measure the device, for estimates of time.")] = False,
    device: Annotated[str, typer.Option("--device", help="What --calibrate measures: auto, cpu, cuda or cuda:N.")] = (
        "auto"
    ),
) -> None:
    """Look at device, versions, cached models and writable folders, and say what to do about each problem."""
    from gridloom.runtime.doctor import examine
    from gridloom.stores.workspace import Workspace

    if measure:
        from gridloom.runtime.calibrate import calibrate
        from gridloom.runtime.device import resolve_device

        def say(text: str) -> None:
            if not as_json:
                print(text)

        path = calibrate(resolve_device(device), say)
        print(path.read_text(encoding="utf-8") if as_json else f"kept in {path}")
        return
    findings = examine(Workspace.find(home))
    if as_json:
        rows = [{"what": f.what, "status": f.status, "detail": f.detail, "remedy": f.remedy} for f in findings]
        print(json.dumps(rows, indent=1))
    else:
        for finding in findings:
            print(f"{finding.status:<5} {finding.what:<12} {finding.detail}")
            if finding.remedy:
                print(f"{'':<18} {finding.remedy}")
        problems = sum(finding.status == "bad" for finding in findings)
        print("no problems found" if not problems else f"{problems} problem{'' if problems == 1 else 's'} to mend")
    if any(finding.status == "bad" for finding in findings):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.add_typer(models, name="models")
    app.command()(doctor)
