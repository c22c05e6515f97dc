"""Commands that plan and execute specs: plan, run."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    SweepOption,
    WaitOption,
    WalltimeOption,
)
from gridloom.cli.output import optional_output
from gridloom.errors import GridloomError

if TYPE_CHECKING:
    from gridloom.compiler.graph import RunGraph
    from gridloom.runtime.execution.run_outcome import RunResult
    from gridloom.runtime.planning.local import SpecText
    from gridloom.stores.workspace import Workspace


def plan(
    spec: SpecArg,
    overrides: SetOption = None,
    axes: SweepOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 3 when something would run.")] = False,
    device: DeviceOption = None,
    walltime: WalltimeOption = None,
    finished_early: FinishedEarlyOption = None,
    on: OnOption = None,
    graph: Annotated[
        Path | None, typer.Option("--graph", metavar="FILE", help="Also draw the stages as an SVG file.")
    ] = None,
) -> None:
    """Print for each stage whether it is cached or will run, and why. Runs nothing."""
    from gridloom.cli.show.diagnostics import print_diagnostics
    from gridloom.cli.show.tables import folded, plan_table, print_table, time_line
    from gridloom.runtime.execution.cost_on import cost_on
    from gridloom.runtime.execution.elsewhere import place_of_run
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.plan_report import plan_report
    from gridloom.runtime.planning.sweeps import sweep_overrides
    from gridloom.stores.workspace import Workspace
    from gridloom.wording import counted

    workspace = Workspace.find(home)
    whole = [*(overrides or ()), *sweep_overrides(spec, axes or (), overrides or ())]
    made = plan_local(spec, whole, workspace, walltime, device, finished_early or ())
    planned, speeds = made.plan, made.speeds
    where = device or planned.graph.device
    if graph is not None:
        from gridloom.view.drawing.plan_graph import plan_svg
        from gridloom.view.report.alone import write_file

        write_file(graph, plan_svg(plan_report(made, device, walltime), planned.graph))
    if as_json:
        print(json.dumps(plan_report(made, device, walltime).to_data()))
    else:
        if made.compiled.warnings:
            print_diagnostics(made.compiled.warnings)
        print_table(plan_table(planned, speeds, where))
        print(folded(time_line(planned, speeds, where)))
        profile = place_of_run(on, made, spec)
        if on is not None or profile.place.kind != "here":
            print("\n".join(cost_on(profile, planned, speeds.of(where), workspace)))
        again = command_line(
            "run", spec, overrides, axes=axes, finished_early=finished_early, home=home, device=device, on=on
        )
        total = len(planned.stages)
        if planned.num_to_run:
            print(f"{planned.num_to_run} of {counted(total, 'stage')} will run. `{again}` does it.")
        else:
            print(f"all {counted(total, 'stage')} are cached; nothing to run.")
    if exit_code and planned.num_to_run:
        raise typer.Exit(3)


def execute(
    spec: str | SpecText,
    overrides: list[str],
    home: Any,
    device: str | None,
    walltime: float | None,
    quiet: bool,
    again: str,
    wait: bool = False,
    finished_early: list[str] | None = None,
    on: str | None = None,
    only: list[str] | None = None,
    *,
    show: bool = False,
    verbose: bool = False,
    submission: Path | None = None,
    as_data: Callable[[RunResult, RunGraph, Workspace], Any] | None = None,
) -> None:
    """Run a spec and print its results, or how to go on where it stopped.

    Args:
        again: the command that continues.
        show: whether the tasks of a cached solve stage are shown.
        verbose: whether the grids of every task are drawn.
        submission: file to copy the picks to.
        as_data: what makes the data that is printed as JSON in place of the results.
    """
    from gridloom.runtime.planning.local import plan_local
    from gridloom.runtime.planning.only import only_stages
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    planned = plan_local(spec, overrides, workspace, walltime, device, finished_early or ())
    if only:
        planned = only_stages(planned, only)

    # a spec that does not compile is refused before
    from gridloom.cli.show.comparison import print_comparison
    from gridloom.cli.show.diagnostics import print_diagnostics
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.run_results import print_results
    from gridloom.cli.show.terminal import Terminal
    from gridloom.errors import StageInterrupted
    from gridloom.runtime.execution.elsewhere import hand_over, place_of_run
    from gridloom.runtime.execution.launch import launch
    from gridloom.runtime.execution.run_outcome import RunFailed
    from gridloom.runtime.reports.comparison import SCORES, compare_runs

    shown = spec if isinstance(spec, str) else spec.shown
    profile = place_of_run(on, planned, shown)
    where = profile.place
    if planned.compiled.warnings and not quiet:
        print_diagnostics(planned.compiled.warnings)
    if where.kind in ("torchrun", "slurm"):
        if as_data is not None or not isinstance(spec, str):
            what = "--json needs the results in this process" if as_data is not None else "there is no file of the spec"
            raise GridloomError(
                f"{where} takes the run over, and {what}",
                "give --on local:N or ray, or write a spec and `gridloom run` it there",
            )
        if submission is not None:
            raise GridloomError(
                f"--submission is written by the process that runs the spec, and {where} takes the run over",
                "run without --submission, then the same command without --on: all stages are cached by then",
            )
        typed = command_line(
            "run",
            shown,
            overrides,
            finished_early=finished_early,
            quiet=quiet,
            wait=wait,
            home=workspace.root,
            device=device,
            walltime=walltime,
        )
        handed = hand_over(profile, planned, shlex.split(typed)[2:], workspace, only or ())
        assert handed is not None, "it is one of the places that take a run over"
        if handed[1]:
            print("\n".join(handed[1]))
        if handed[0]:
            raise typer.Exit(handed[0])
        return
    console = Terminal()
    progress = reporter(console, quiet, bars=Terminal(stderr=True), verbose=verbose)
    try:
        result = launch(planned, shown, overrides, workspace, progress, device, walltime, wait, where)
    except StageInterrupted as interrupted:
        print(f"{interrupted}\n  saved. Continue with: {again}", file=sys.stderr)
        raise typer.Exit(interrupted.exit_code) from None
    except RunFailed as failed:
        print_results(console, failed.result, planned.plan.graph, workspace, show_tasks=show, quiet=True)
        print(f"{failed}\n  what is done is kept; once it is mended, go on with: {again}", file=sys.stderr)
        raise typer.Exit(failed.exit_code) from None
    graph = planned.plan.graph
    if as_data is not None:
        if submission is not None:
            from gridloom.runtime.execution.submission import copy_submission

            copy_submission(result, graph, submission)
        print(json.dumps(as_data(result, graph, workspace), default=str, indent=1))
        return
    print_results(console, result, graph, workspace, show_tasks=show, verbose=verbose, quiet=quiet)
    if submission is not None:
        from gridloom.runtime.execution.submission import copy_submission

        print(f"wrote {copy_submission(result, graph, submission)}")
    if graph.variants and any(node.produces in SCORES for node in graph.nodes):
        print_comparison(compare_runs([result.run_id], workspace))


def run(
    spec: SpecArg,
    overrides: SetOption = None,
    axes: SweepOption = None,
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

    The run of a sweep (`sweep` in the spec, or -m) ends with the table of `runs compare`.

    Under torchrun or accelerate the first process is the run, and the others take part in its training.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        from gridloom.runtime.machine.ranks import Ranks
        from gridloom.runtime.training.follow import follow

        follow(Ranks.of_environment())
        return
    if dry_run:
        plan(spec, overrides, axes, home, device=device, walltime=walltime, finished_early=finished_early, on=on)
        return
    from gridloom.runtime.planning.sweeps import sweep_overrides

    again = command_line(
        "run",
        spec,
        overrides,
        finished_early=finished_early,
        quiet=quiet,
        wait=wait,
        axes=axes,
        home=home,
        device=device,
        walltime=walltime,
        on=on,
    )
    again += "".join(f" --only {shlex.quote(name)}" for name in only or ())
    whole = [*(overrides or ()), *sweep_overrides(spec, axes or (), overrides or ())]
    with optional_output():
        execute(spec, whole, home, device, walltime, quiet, again, wait, finished_early, on, only)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    for command in (plan, run):
        app.command()(command)
