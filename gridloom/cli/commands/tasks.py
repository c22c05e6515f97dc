"""Command about solved tasks: tasks, a list of them or one with expected against picked."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from gridloom.cli.complete import complete_tasks
from gridloom.cli.options import HomeOption, JsonOption, LimitOption, RunOption, StageOption
from gridloom.wording import counted

COLUMNS = ("task_id", "stage", "tests", "attempts", "accepted", "solved", "pass2", "cell_accuracy", "seconds")


def tasks(
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="A task's id: show it whole.", autocompletion=complete_tasks),
    ] = None,
    home: HomeOption = None,
    run: RunOption = None,
    stage: StageOption = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only tasks that are wrong by the score, or open where there is none.")
    ] = False,
    limit: LimitOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the tasks of a run with their scores; or show one: picks, and where known expected grids cell by cell."""
    from gridloom.stores.ledger import Ledger
    from gridloom.stores.runs.names import find_run, refuse_unknown
    from gridloom.stores.workspace import Workspace

    workspace = Workspace.find(home)
    ledger = Ledger(workspace)
    run = ledger.latest_run() if run is None else find_run(run, ledger)
    refuse_unknown(ledger, run, stage, task)
    where = "run_id = $run and ($stage is null or stage = $stage) and ($task is null or task_id = $task)"
    where += " and ($all or not coalesce(solved, accepted))"
    found = ledger.rows(
        f"from v_tasks where attempts > 0 and {where} order by stage, task_id",
        {"run": run, "stage": stage, "task": task, "all": not failed or task is not None},
    )
    if task is not None:
        _show(workspace, ledger, found, as_json)
        return
    if as_json:
        print(json.dumps(found[:limit], default=str, indent=1))
        return
    from gridloom.cli.show.tables import print_table, rows_table

    drop = ("seconds", "stage", "tests", "pass2", "attempts")
    print_table(rows_table(found[:limit], COLUMNS, drop=drop))
    shown = found[:limit]
    of = f"{len(shown):,} of {len(found):,}" if len(shown) < len(found) else f"{len(found):,}"
    print(f"{of} task{'' if len(found) == 1 else 's'}. `gridloom tasks TASK` shows one with its picks.")


def _show(workspace: Any, ledger: Any, found: list[dict[str, Any]], as_json: bool) -> None:
    from gridloom.cli.show.compared import difference_text, solved_task_view
    from gridloom.cli.show.terminal import Terminal
    from gridloom.runtime.reports.expected import expected_grids
    from gridloom.stores.records import PickRecord, TaskRecord, as_dict

    shown = []
    for row in found:
        at = {name: row[name] for name in ("run_id", "stage", "task_id")}
        (task,) = ledger.read(TaskRecord, **at)
        picks = [asdict(pick) for pick in ledger.read(PickRecord, **at)]
        (made,) = ledger.rows(
            "select any_value(stage_key) as key from attempts where (run_id, stage, task_id) = (?, ?, ?)",
            [*at.values()],
        )
        answers = expected_grids(workspace, made["key"])
        expected = None if answers is None else answers.get(row["task_id"])
        if as_json:
            for pick in picks:
                if expected is not None:
                    pick["difference"] = difference_text(expected[pick["test_index"]], pick["grid"])
            shown.append({**row, "task": as_dict(task), "picks": picks, "expected": expected})
        else:
            print(
                f"stage {row['stage']} of run {row['run_id']}, {counted(int(row['attempts']), 'attempt')}: "
                f"`gridloom attempts --task {row['task_id']} --run {row['run_id']}`"
            )
            Terminal().print(solved_task_view(as_dict(task), picks, expected))
    if as_json:
        print(json.dumps({"format_version": 1, "tasks": shown}, default=str, indent=1))


def register(app: typer.Typer) -> None:
    """Add this group's commands to the application."""
    app.command()(tasks)
