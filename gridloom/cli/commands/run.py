"""Commands that plan and execute specs: plan, run, solve."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import Annotated, Any

import typer

from gridloom.cli.command_line import command_line
from gridloom.cli.options import (
    DeviceOption,
    FinishedEarlyOption,
    HomeOption,
    JsonOption,
    OnlyOption,
    OnOption,
    QuietOption,
    SetOption,
    SpecArg,
    WalltimeOption,
)
from gridloom.cli.output import optional_output
from gridloom.errors import GridloomError

WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for stages that another process runs, and use what it makes.")
]


def plan(
    spec: SpecArg,
    overrides: SetOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 3 when something would run.")] = False,
    device: DeviceOption = None,
    walltime: WalltimeOption = None,
    finished_early: FinishedEarlyOption = None,
    on: OnOption = None,
) -> None:
    """Print for each stage whether it is cached or will run, and why. Runs nothing."""
    from gridloom.cli.show.tables import plan_table, print_table, time_line
    from gridloom.compiler.render import render
    from gridloom.runtime.cluster.profile import read_profile
    from gridloom.runtime.execution.cost_on import cost_on
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.plan_report import plan_report
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    made = plan_local(spec, overrides or (), workspace, walltime, device, finished_early or ())
    planned, speeds = made.plan, made.speeds
    where = device or planned.graph.device
    if as_json:
        print(json.dumps(plan_report(made, device, walltime).to_data()))
    else:
        if made.compiled.warnings:
            print(render(made.compiled.warnings), file=sys.stderr)
        print_table(plan_table(planned, speeds, where))
        print(time_line(planned, speeds, where))
        if on is not None:
            print("\n".join(cost_on(read_profile(on), planned, speeds.of(where), workspace)))
        again = command_line("run", spec, overrides, finished_early=finished_early, home=home, device=device, on=on)
        total = len(planned.stages)
        if planned.num_to_run:
            print(f"{planned.num_to_run} of {total} stages will run. `{again}` does it.")
        else:
            print(f"all {total} stages are cached; nothing to run.")
    if exit_code and planned.num_to_run:
        raise typer.Exit(3)


def _execute(
    spec: str,
    overrides: list[str],
    home: Any,
    device: str | None,
    walltime: float | None,
    quiet: bool,
    again: str,
    wait: bool,
    finished_early: list[str] | None,
    on: str | None,
    only: list[str] | None = None,
    *,
    show: bool,
) -> None:
    from gridloom.cli.show.comparison import print_comparison
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.run_results import print_results
    from gridloom.cli.show.terminal import Terminal
    from gridloom.compiler.render import render
    from gridloom.errors import StageInterrupted
    from gridloom.runtime.execution.elsewhere import hand_over, place_of_run
    from gridloom.runtime.execution.launch import launch
    from gridloom.runtime.execution.run_outcome import RunFailed
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.only import only_stages
    from gridloom.runtime.reports.comparison import SCORES, compare_runs
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    planned = plan_local(spec, overrides, workspace, walltime, device, finished_early or ())
    if only:
        planned = only_stages(planned, only)
    profile = place_of_run(on, planned, spec)
    where = profile.place
    if planned.compiled.warnings and not quiet:
        print(render(planned.compiled.warnings), file=sys.stderr)
    if where.kind in ("torchrun", "slurm"):
        typed = command_line(
            "run",
            spec,
            overrides,
            finished_early=finished_early,
            quiet=quiet,
            wait=wait,
            home=workspace.root,
            device=device,
            walltime=walltime,
        )
        words = [*shlex.split(typed)[2:], *(word for name in only or () for word in ("--only", name))]
        handed = hand_over(profile, planned, words, workspace)
        assert handed is not None, "it is one of the places that take a run over"
        print("\n".join(handed[1])) if handed[1] else None
        if handed[0]:
            raise typer.Exit(handed[0])
        return
    console = Terminal()
    try:
        shown = reporter(console, quiet)
        result = launch(planned, spec, overrides, workspace, shown, device, walltime, wait, where)
    except StageInterrupted as interrupted:
        print(f"{interrupted}\n  saved. Continue with: {again}", file=sys.stderr)
        raise typer.Exit(interrupted.exit_code) from None
    except RunFailed as failed:
        print_results(console, failed.result, planned.plan.graph, workspace, show_tasks=show, quiet=True)
        print(f"{failed}\n  what is done is kept; once it is mended, go on with: {again}", file=sys.stderr)
        raise typer.Exit(failed.exit_code) from None
    graph = planned.plan.graph
    print_results(console, result, graph, workspace, show_tasks=show, quiet=quiet)
    if graph.variants and any(node.produces in SCORES for node in graph.nodes):
        print_comparison(compare_runs([result.run_id], workspace))


def run(
    spec: SpecArg,
    overrides: SetOption = None,
    home: HomeOption = None,
    device: DeviceOption = None,
    walltime: WalltimeOption = None,
    quiet: QuietOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing, print the plan, as `plan`.")] = False,
    wait: WaitOption = False,
    finished_early: FinishedEarlyOption = None,
    on: OnOption = None,
    only: OnlyOption = None,
) -> None:
    """Execute every stage that is not cached; an interrupted run continues where it stopped.

    The run of a sweep ends with the table of `runs compare`.

    Under torchrun or accelerate the first process is the run, and the others take part in its training.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        from gridloom.runtime.machine.ranks import Ranks
        from gridloom.runtime.training.follow import follow

        follow(Ranks.of_environment())
        return
    if dry_run:
        plan(spec, overrides, home, device=device, walltime=walltime, finished_early=finished_early, on=on)
        return
    again = command_line(
        "run",
        spec,
        overrides,
        finished_early=finished_early,
        quiet=quiet,
        wait=wait,
        home=home,
        device=device,
        walltime=walltime,
        on=on,
    )
    again += "".join(f" --only {shlex.quote(name)}" for name in only or ())
    with optional_output():
        _execute(
            spec, overrides or [], home, device, walltime, quiet, again, wait, finished_early, on, only, show=False
        )


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
) -> None:
    """Run a spec up to its solve and score stages and show every task: demonstrations, attempts, verdicts, picks.

    SPEC may be a task file, FILE.json: the shipped TRM learns it from its demonstrations, then the loop answers it.
    It may be a file of sudokus or mazes, FILE.txt or FILE.csv: --with CHECKPOINT answers and shows them.
    """
    from gridloom.runtime.planning.puzzle_files import is_puzzle_file

    if is_puzzle_file(spec):
        unused = {"--split": split, "--limit": limit, "--budget": budget, "--finished-early": finished_early or None}
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
            **{"with": given},
        )
        with optional_output():
            _solve_puzzles(spec, overrides or [], given, home, device, walltime, quiet, again, wait)
        return
    if given is not None:
        raise GridloomError("--with is for a file of puzzles", f"write what solves in {spec}, or use --set")
    from gridloom.runtime.planning.local import RECIPE, is_task_file, solve_overrides, task_overrides

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
        home=home,
        device=device,
        walltime=walltime,
        on=on,
    )
    if is_task_file(spec):
        overrides = [*task_overrides(spec, budget), *(overrides or [])]
        spec = RECIPE
    elif budget is not None:
        raise GridloomError("--budget is for a task file", f"write its training's `budget` in {spec}, or use --set")
    extra = [*(overrides or []), *solve_overrides(spec, overrides or (), split=split, limit=limit)]
    with optional_output():
        _execute(spec, extra, home, device, walltime, quiet, again, wait, finished_early, on, show=True)


def _solve_puzzles(
    file: str,
    overrides: list[str],
    given: str | None,
    home: Any,
    device: str | None,
    walltime: float | None,
    quiet: bool,
    again: str,
    wait: bool,
) -> None:
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.puzzles import print_puzzles
    from gridloom.cli.show.run_results import print_results
    from gridloom.cli.show.terminal import Terminal
    from gridloom.errors import StageInterrupted
    from gridloom.runtime.execution.launch import launch
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.puzzle_files import STAGE, puzzle_spec
    from gridloom.stores.evaluation_records import PuzzlePredictionRecord
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.workspace import Workspace

    workspace, console = Workspace.find(home), Terminal()
    text = puzzle_spec(file, given, workspace)
    planned = plan_local(text, overrides, workspace, walltime, device)
    try:
        result = launch(planned, text.shown, overrides, workspace, reporter(console, quiet), device, walltime, wait)
    except StageInterrupted as interrupted:
        print(f"{interrupted}\n  saved. Continue with: {again}", file=sys.stderr)
        raise typer.Exit(interrupted.exit_code) from None
    producer = result.artifacts[STAGE].manifest["producer"]
    made = Ledger(workspace).read(PuzzlePredictionRecord, run_id=producer["run_id"], stage=producer["stage"])
    found = sorted(made, key=lambda one: one.puzzle)
    print_puzzles(console, found)
    print_results(console, result, planned.plan.graph, workspace, show_tasks=False, quiet=quiet)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    for command in (plan, run, solve):
        app.command()(command)
