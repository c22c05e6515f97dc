"""The attempts artifact: picks.json, attempts.jsonl and meta.json, written from the ledger without clock values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gridloom.errors import StageError
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.interop.result_files import Rows, rows_of, write_compact
from gridloom.stores.attempt import Attempt

PICKS, ATTEMPTS, META = "picks.json", "attempts.jsonl", "meta.json"
FORMAT_VERSION = 1


def write_picks(path: Path, tasks: Sequence[Task], picks: Rows) -> None:
    """Write per task whether it was accepted, and up to two grids per test input by descending weight."""
    content: dict[str, Any] = {}
    for task in tasks:
        tests: list[dict[str, Any]] = [{"grids": [], "weights": [], "attempts": []} for _ in task.tests]
        accepted, num_attempts = False, 0
        for pick in sorted(rows_of(picks, task), key=lambda row: (row["test_index"], row["rank"])):
            test = tests[pick["test_index"]]
            test["grids"].append(pick["grid"])
            test["weights"].append(pick["weight"])
            test["attempts"].append(pick["attempt"])
            accepted, num_attempts = pick["accepted"], pick["num_attempts"]
        content[task.task_id] = {"accepted": accepted, "num_attempts": num_attempts, "tests": tests}
    write_compact(path, {"format_version": FORMAT_VERSION, "tasks": content})


def write_attempts(path: Path, attempts: Sequence[Attempt], before: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write one JSON line per attempt, sorted by task and attempt number.

    Args:
        before: lines of an earlier stage, of tasks that were not attempted again.
    """
    made = [*before, *(attempt.line() for attempt in attempts)]
    ordered = sorted(made, key=lambda line: (line["task_id"], line["attempt"]))
    lines = [json.dumps(line, sort_keys=True) + "\n" for line in ordered]
    path.write_text("".join(lines), encoding="utf-8")


def write_meta(path: Path, meta: Mapping[str, Any]) -> None:
    """Write meta.json: checkpoint, data and settings of the attempts."""
    write_compact(path, {"format_version": FORMAT_VERSION, **meta})


def read_picks(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the content of picks.json by task id. Raises StageError when it is damaged or of another format."""
    try:
        content = json.loads((folder / PICKS).read_text(encoding="utf-8"))
        tasks: dict[str, dict[str, Any]] = content["tasks"]
        version = content["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"cannot read {folder / PICKS}: {error}", "remove the artifact and run again") from error
    if version != FORMAT_VERSION:
        raise StageError(f"{folder / PICKS} has format {version}, this gridloom reads {FORMAT_VERSION}", "run again")
    return tasks


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of attempts.jsonl. Raises StageError when it is damaged."""
    try:
        return [json.loads(line) for line in (folder / ATTEMPTS).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise StageError(f"cannot read {folder / ATTEMPTS}: {error}", "remove the artifact and run again") from error
