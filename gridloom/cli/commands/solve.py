"""Command that solves tasks and puzzles: solve."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gridloom.cli.command_line import command_line
from gridloom.cli.commands.run import execute
from gridloom.cli.complete import complete_specs
from gridloom.cli.options import (
    DeviceOption,
    FinishedEarlyOption,
    HomeOption,
    JsonOption,
    OnOption,
    QuietOption,
    SetOption,
    SpecArg,
    StageRunOption,
    WaitOption,
    WalltimeOption,
)
from gridloom.cli.output import optional_output
from gridloom.errors import GridloomError


def solve(
    spec: SpecArg,
    overrides: SetOption = None,
    split: Annotated[str | None, typer.Option("--split", help="Only tasks of this subset.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="At most this many tasks.")] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="For a task file: time to learn it, such as 60s.", metavar="TIME")
    ] = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    walltime: WalltimeOption = None,
    quiet: QuietOption = False,
    wait: WaitOption = False,
    finished_early: FinishedEarlyOption = None,
    on: OnOption = None,
    given: Annotated[
        str | None,
        typer.Option("--with", metavar="CHECKPOINT", help="For a file of puzzles: a finished training, or a folder."),
    ] = None,
    run: StageRunOption = None,
    submission: Annotated[
        Path | None,
        typer.Option("--submission", metavar="FILE", help="Write the two grids a test input in Kaggle's form."),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Draw the grids of every task, not of the first two alone.")
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            metavar="SPEC",
            help="For tasks: the recipe that solves them.",
            autocompletion=complete_specs,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Solve tasks: of a spec, of a file or folder of tasks, of Kaggle's challenges; show attempts, verdicts and picks.

    SPEC may be a task file, FILE.json: programs are searched; where none is believed, the shipped TRM learns the task
    from its demonstrations, and the loop answers it.
    It may be a FOLDER of task files, or a file of many: CHALLENGES.json, FILE.jsonl. A search of programs answers
    them, or with --budget the TRM after learning them all, or what --recipe names.
    It may be a file of sudokus or mazes, FILE.txt or FILE.csv: --with CHECKPOINT answers and shows them.
    """
    from gridloom.runtime.planning.puzzle_files import is_puzzle_file

    if is_puzzle_file(spec):
        unused: dict[str, object] = {
            "--split": split,
            "--limit": limit,
            "--budget": budget,
            "--finished-early": finished_early or None,
        }
        unused |= {"--submission": submission, "--recipe": recipe}
        if found := [option for option, value in unused.items() if value is not None]:
            raise GridloomError(
                f"{spec} holds puzzles, and {found[0]} is for specs and ARC tasks",
                f"leave {found[0]} out: all puzzles of the file are answered by the checkpoint of --with",
            )
        again = command_line(
            "solve",
            spec,
            overrides,
            quiet=quiet,
            wait=wait,
            home=home,
            device=device,
            walltime=walltime,
            on=on,
            run=run,
            **{"with": given},
        )
        with optional_output():
            _solve_puzzles(spec, overrides or [], given, run, home, device, walltime, quiet, again, wait, on, as_json)
        return
    for option, value in (("--with", given), ("--run", run)):
        if value is not None:
            raise GridloomError(f"{option} is for a file of puzzles", f"write what solves in {spec}, or use --set")
    from gridloom.runtime.execution.submission import check_target
    from gridloom.runtime.planning.local import solve_overrides
    from gridloom.runtime.quick.task_source import is_task_source, source_spec

    if submission is not None:
        check_target(submission)
    again = command_line(
        "solve",
        spec,
        overrides,
        finished_early=finished_early,
        quiet=quiet,
        wait=wait,
        split=split,
        limit=limit,
        budget=budget,
        recipe=recipe,
        submission=submission,
        home=home,
        device=device,
        walltime=walltime,
        on=on,
    )
    if is_task_source(spec):
        spec, given_tasks = source_spec(spec, recipe, budget, split)
        overrides, split = [*given_tasks, *(overrides or [])], None
    elif recipe is not None:
        raise GridloomError(f"--recipe is for tasks, and {spec} is a spec", "leave --recipe out")
    elif budget is not None:
        raise GridloomError("--budget is for a task file", f"write its training's `budget` in {spec}, or use --set")
    extra = [*(overrides or []), *solve_overrides(spec, overrides or (), split=split, limit=limit)]
    from gridloom.runtime.reports.solved_data import solved_data

    with optional_output():
        execute(
            spec,
            extra,
            home,
            device,
            walltime,
            quiet or as_json,
            again,
            wait,
            finished_early,
            on,
            show=True,
            verbose=verbose,
            submission=submission,
            as_data=solved_data if as_json else None,
        )


def _solve_puzzles(
    file: str,
    overrides: list[str],
    given: str | None,
    run: str | None,
    home: Any,
    device: str | None,
    walltime: float | None,
    quiet: bool,
    again: str,
    wait: bool,
    on: str | None,
    as_json: bool,
) -> None:
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.puzzles import print_puzzles
    from gridloom.cli.show.run_results import print_results
    from gridloom.cli.show.terminal import Terminal
    from gridloom.errors import StageInterrupted
    from gridloom.runtime.execution.elsewhere import place_of_run
    from gridloom.runtime.execution.launch import launch
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.puzzle_files import STAGE, puzzle_spec
    from gridloom.runtime.reports.solved_data import answered_data
    from gridloom.stores.evaluation_records import PuzzlePredictionRecord
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    workspace, console = Workspace.find(home), Terminal()
    text = puzzle_spec(file, given, workspace, run)
    planned = plan_local(text, overrides, workspace, walltime, device)
    where = place_of_run(on, planned, text.shown).place
    if where.kind in ("torchrun", "slurm"):
        raise GridloomError(
            f"{where} takes specs over, and {file} is none", "give --on local:N or ray, or write a spec"
        )
    progress = reporter(console, quiet or as_json, bars=Terminal(stderr=True))
    try:
        result = launch(
            planned,
            text.shown,
            overrides,
            workspace,
            progress,
            device,
            walltime,
            wait,
            where,
        )
    except StageInterrupted as interrupted:
        print(f"{interrupted}\n  saved. Continue with: {again}", file=sys.stderr)
        raise typer.Exit(interrupted.exit_code) from None
    producer = result.artifacts[STAGE].manifest["producer"]
    made = Ledger(workspace).read(PuzzlePredictionRecord, run_id=producer["run_id"], stage=producer["stage"])
    found = sorted(made, key=lambda one: one.puzzle)
    if as_json:
        print(json.dumps(answered_data(result, planned.plan.graph, found), default=str, indent=1))
        return
    print_puzzles(console, found)
    print_results(console, result, planned.plan.graph, workspace, show_tasks=False, quiet=quiet)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(solve)
