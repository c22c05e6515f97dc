"""Export of picks in the format of arc-agi-benchmarking: a folder with one file per task.

A file is a list over test inputs of {"attempt_1": {"answer", "metadata"}, "attempt_2": ...}. Tokens and times are those
of the loop's attempt that proposed the grid; costs are 0. A test input without any grid has the answer [].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridloom.errors import GridloomError, StageError
from gridloom.plain_names import file_named
from gridloom.stores.attempt import Attempt
from gridloom.stores.files.write_aside import empty_folder, move
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import PickRecord, RunRecord, StageRecord, TaskRecord
from gridloom.stores.workspace import Workspace

PROVIDER = "gridloom"


def export_benchmarking(workspace: Workspace, run_id: str, folder: Path, stage: str | None = None) -> int:
    """Write the picks of a run's solve stage and read them back; return the number of tasks.

    Args:
        folder: output folder; must not exist, or be empty.
        stage: the solve stage; optional if the run has only one.

    Raises:
        GridloomError: no such stage or picks, or a folder that is not empty.
        StageError: the files read back differ from those written.
    """
    ledger = Ledger(workspace)
    made_in, name = _where_made(ledger, run_id, stage)
    tasks = ledger.read(TaskRecord, run_id=made_in, stage=name)
    picks = ledger.read(PickRecord, run_id=made_in, stage=name)
    if not tasks or not {task.task_id for task in tasks} <= {pick.task_id for pick in picks}:
        open_tasks = len({task.task_id for task in tasks} - {pick.task_id for pick in picks})
        raise GridloomError(
            f"{open_tasks} of {len(tasks)} tasks of '{name}' have no picks yet", "run the spec again: it goes on"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GridloomError(f"{folder} is there already", "name a folder that does not exist")
    made = ledger.whole_attempts(made_in, stage=name, fork=0)
    attempts = {(attempt.row.task_id, attempt.row.attempt): attempt for attempt in made}
    try:
        with empty_folder(folder.with_name(f".{folder.name}.part")) as aside:
            written = {}
            for task in tasks:
                path = file_named(aside, task.task_id, ".json")
                own = [pick for pick in picks if pick.task_id == task.task_id]
                written[task.task_id] = _pairs(task, own, attempts)
                path.write_text(json.dumps(written[task.task_id], indent=1) + "\n", encoding="utf-8")
            _verify(aside, written)
            move(aside, folder)
    except OSError as error:
        raise GridloomError(f"cannot write {folder}: {error.strerror or error}", "name another folder") from error
    return len(tasks)


def _where_made(ledger: Ledger, run_id: str, stage: str | None) -> tuple[str, str]:
    """Return the run and the stage that made the attempts: those of another run if this run found them cached."""
    if not ledger.read(RunRecord, run_id=run_id):
        raise GridloomError(f"unknown run '{run_id}'", "`gridloom runs` lists them")
    found = [record for record in ledger.read(StageRecord, run_id=run_id) if record.kind == "solve"]
    names = sorted({record.stage for record in found})
    if stage is None and len(names) != 1:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise GridloomError(f"name the solve stage of run {run_id}: {known}", "--stage NAME")
    wanted = stage or names[0]
    if wanted not in names:
        raise GridloomError(f"run {run_id} has no solve stage '{wanted}'", f"it has {', '.join(names) or 'none'}")
    key = next(record.key for record in found if record.stage == wanted)
    makers = ledger.rows(
        "SELECT run_id, stage FROM stages WHERE key = ? AND status <> 'cached' ORDER BY run_id <> ?, started_at DESC",
        [key, run_id],
    )
    return (str(makers[0]["run_id"]), str(makers[0]["stage"])) if makers else (run_id, wanted)


def _pairs(
    task: TaskRecord,
    picks: Sequence[PickRecord],
    attempts: Mapping[tuple[str, int], Attempt],
) -> list[dict[str, Any]]:
    pairs = []
    for index in range(len(task.tests)):
        ranked = sorted((pick for pick in picks if pick.test_index == index), key=lambda pick: pick.rank)
        answers = [(pick.grid, attempts[task.task_id, pick.attempt]) for pick in ranked]
        # the last attempt represents a test input for which no attempt proposed a grid
        last = max(
            (attempt for (task_id, _), attempt in attempts.items() if task_id == task.task_id),
            key=lambda attempt: attempt.row.attempt,
        )
        pairs.append(
            {
                f"attempt_{number}": {
                    "answer": grid,
                    "metadata": _metadata(task.task_id, index, grid, attempt),
                }
                for number, (grid, attempt) in enumerate(answers or [([], last)], start=1)
            }
        )
    return pairs


def _metadata(task_id: str, pair_index: int, grid: list[list[int]], attempt: Attempt) -> dict[str, Any]:
    row, call = attempt.row, attempt.llm_call
    read, wrote = (call.prompt_tokens, call.new_tokens) if call else (0, 0)
    text = row.text if row.text is not None else json.dumps(grid)
    return {
        "model": call.model if call else "trm",
        "provider": PROVIDER,
        "start_timestamp": _iso(row.started_at),
        "end_timestamp": _iso(row.ended_at),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
        "kwargs": {**row.plan, "checkpoint": row.checkpoint_key},
        "usage": {
            "prompt_tokens": read,
            "completion_tokens": wrote,
            "total_tokens": read + wrote,
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "cost": {"prompt_cost": 0.0, "completion_cost": 0.0, "total_cost": 0.0},
        "task_id": task_id,
        "pair_index": pair_index,
        "test_id": row.attempt_id,
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _verify(folder: Path, written: Mapping[str, list[dict[str, Any]]]) -> None:
    """Read every file back. Raises StageError when a file differs from the written content."""
    names = {path.stem for path in folder.glob("*.json")}
    if names != set(written):
        raise StageError(f"{folder} holds {len(names)} tasks, not {len(written)}", "export again")
    for task_id, pairs in written.items():
        path = file_named(folder, task_id, ".json")
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != pairs or any("attempt_1" not in pair for pair in found):
            raise StageError(f"{path} does not hold what was written", "export again")
