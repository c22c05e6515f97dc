"""Commands over recorded attempts: attempts, attempt, replay."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from gridloom.cli.complete import complete_attempts
from gridloom.cli.options import HomeOption, JsonOption, QuietOption, RunOption, StageOption
from gridloom.cli.show.answers import print_json_rows, print_warnings
from gridloom.errors import ReplayError

DEFAULT_LIMIT = 50
"""Number of attempts that `attempts` lists without --limit or --all."""


def attempts(
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only attempts that are wrong by the score, or rejected where none is.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="The most attempts to list; 50 by default, all with --json.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List all attempts.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the attempts of a run, the first 50 of them by default."""
    if every and limit is not None:
        raise typer.BadParameter("--all and --limit contradict each other: choose one")
    from gridloom.cli.show.tables import print_table, rows_table
    from gridloom.stores.answers import jsonable
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run, refuse_unknown
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    run = ledger.latest_run() if run is None else find_run(run, ledger)
    refuse_unknown(ledger, run, stage, task)
    most = None if every else limit or (None if as_json else DEFAULT_LIMIT)
    page = ledger.attempt_page(run, stage=stage, task_id=task, failed=failed, limit=most)
    columns = ("name", "stage", "verdict", "score", "solved", "llm_tokens", "seconds", "feedback")
    print_warnings(ledger)
    more = page.total - len(page.rows)
    if as_json:
        print_json_rows(jsonable(row) for row in page.rows)
        if more:
            print(f"{more:,} more: --limit N or --all lists them", file=sys.stderr)
        return
    rows = [row | {"feedback": _clipped(row["feedback"])} for row in page.rows]
    print_table(rows_table(rows, columns, prose=("feedback",), drop=("solved", "seconds", "stage", "llm_tokens")))
    shown = f"{len(page.rows):,} of {page.total:,}" if more else f"{page.total:,}"
    rest = f" {more:,} more: --limit N or --all lists them." if more else ""
    print(f"{shown} attempt{'' if page.total == 1 else 's'}.{rest} `gridloom attempt NAME` shows one whole.")


def _clipped(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def attempt(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME | diff NAME NAME",
            help="An attempt: 0934a4d8.7@4fc1.",
            autocompletion=complete_attempts,
        ),
    ],
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    as_json: JsonOption = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML file.")] = None,
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Write its grids as a picture.")] = None,
    gif: Annotated[
        Path | None, typer.Option("--gif", metavar="FILE", help="Run its network again; write its ACT steps.")
    ] = None,
) -> None:
    """Show one attempt whole: grids side by side, prompt, text, verdict, timings; or the difference of two."""
    from gridloom.cli.show.attempts import attempt_diff_view, attempt_view
    from gridloom.cli.show.compared import compared_view
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.reports.expected import expected_grids
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run
    from gridloom.stores.workspace import Workspace

    ledger = Ledger(Workspace.find(home))
    run = None if run is None else find_run(run, ledger)
    if words[0] == "diff":
        if len(words) != 3:
            raise typer.BadParameter("`gridloom attempt diff` takes two attempts")
        pair = [ledger.attempt(word, run, stage) for word in words[1:]]
        Terminal().print(attempt_diff_view(pair[0], pair[1]))
    elif len(words) != 1:
        raise typer.BadParameter("`gridloom attempt` takes one attempt")
    elif html or png or gif:
        from gridloom.view.report.attempt_file import write_attempt

        for path in write_attempt(ledger, words[0], run, stage, html=html, png=png, gif=gif):
            print(f"wrote {path}")
    elif as_json:
        print(json.dumps(ledger.attempt(words[0], run, stage), default=_jsonable, indent=1))
    else:
        row = ledger.attempt(words[0], run, stage)
        answers = expected_grids(ledger.workspace, row["stage_key"]) or {}
        given = [(index, f"test {index + 1} proposed", grid) for index, grid in enumerate(row["grids"])]
        expected = answers.get(row["task_id"])
        Terminal().print(attempt_view(row, None if expected is None else compared_view(expected, given)))


def _jsonable(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def replay(
    attempt_id: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Such as 0934a4d8.7@4fc1.", autocompletion=complete_attempts),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Replay all failed attempts of the run.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Run the LLaMA too; name the first node that diverges.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the plan: records a fork.")
    ] = None,
    from_node: Annotated[
        str | None,
        typer.Option("--from-node", metavar="NODE", help="Begin at reason (as --live), adapt, propose or verify."),
    ] = None,
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    quiet: QuietOption = False,
) -> None:
    """Re-execute attempts from their records and compare bit for bit. Exits 1 when something is not equal."""
    from gridloom.cli.show.progress import reporter
    from gridloom.cli.show.terminal import Terminal
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run
    from gridloom.stores.workspace import Workspace

    if failed == (attempt_id is not None):
        raise ReplayError(
            "no attempt to replay is given: name one, or use --failed for all", "`gridloom attempts` lists them"
        )
    console, workspace = Terminal(), Workspace.find(home)
    ledger = Ledger(workspace)
    run = None if run is None else find_run(run, ledger)
    if attempt_id is not None:
        ledger.attempt(attempt_id, run, stage)
    # the loop loads torch, which takes seconds: a wrong name is refused before
    from gridloom.solvers.replay.replay import replay as replay_one
    from gridloom.solvers.replay.replay import replay_failed

    if attempt_id is not None:
        report = replay_one(
            workspace, attempt_id, run_id=run, stage=stage, live=live, overrides=overrides or [], from_node=from_node
        )
        console.print(str(report), highlight=False, markup=False)
        raise typer.Exit(0 if report.equal or overrides else 1)
    reports = []
    shown = reporter(console, quiet)
    for report in replay_failed(
        workspace, run_id=run, stage=stage, live=live, overrides=overrides or [], from_node=from_node, progress=shown
    ):
        reports.append(report)
        if not quiet:
            state = "bit-equal" if report.equal else f"diverges at {report.first_divergence}"
            if report.fork_id:
                state = f"{report.verdict} {report.score:.2f}, recorded as {report.fork_name}"
            console.print(f"{report.name:<19} {report.stage}: {state}, {report.seconds:.1f} s", highlight=False)
    if overrides:
        accepted = sum(report.verdict == "accepted" for report in reports)
        console.print(f"{len(reports)} failed attempts forked, {accepted} of the forks accepted")
        return
    equal = sum(report.equal for report in reports)
    console.print(f"{equal} of {len(reports)} failed attempts replayed bit-equal")
    raise typer.Exit(0 if equal == len(reports) else 1)


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    for command in (attempts, attempt, replay):
        app.command()(command)
