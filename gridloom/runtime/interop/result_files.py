"""Result files that other tools read: submission.json, results.json, eval_results.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridloom.errors import StageError
from gridloom.runtime.data.arc.parsing import parse_grid
from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Task
from gridloom.stores.ledger import Ledger

RESULTS, SUBMISSION = "results.json", "submission.json"
AttemptLine = Mapping[str, Any]
"""Line of attempts.jsonl."""


def parse_failures(attempts: Sequence[AttemptLine]) -> int:
    """Count the attempts whose text holds no grid, of those for which a language model was asked for text."""
    asked = [one for one in attempts if one["text"] is not None and one["plan"].get("max_new_tokens") != 0]
    return sum(parse_grid(one["text"]) is None for one in asked)


def tokens(attempts: Sequence[AttemptLine]) -> int:
    """Count the tokens of prompts and of generated text."""
    return sum((attempt.get("prompt_tokens") or 0) + (attempt.get("new_tokens") or 0) for attempt in attempts)


def seconds_by_task(ledger: Ledger, run_id: str, stage: str) -> dict[str, float]:
    """Return the seconds of each task's attempts from the ledger, without waiting for shared batches."""
    rows = ledger.rows(
        "SELECT task_id, sum(list_sum(map_values(CAST(timings AS MAP(VARCHAR, DOUBLE))))) AS seconds FROM attempts "
        "WHERE run_id = ? AND stage = ? AND fork = 0 GROUP BY task_id",
        [run_id, stage],
    )
    return {row["task_id"]: row["seconds"] for row in rows}


def write_results(
    path: Path,
    *,
    report: Mapping[str, Any],
    picks: Mapping[str, Mapping[str, Any]],
    attempts: Sequence[AttemptLine],
    seconds: Mapping[str, float],
) -> None:
    """Write results.json.

    Args:
        report: report of `score.make_report`, with the meta of the solve stage under `solved_with`.
        picks: picks.json, by task.
        seconds: by task; absent for tasks that are not in this ledger.
    """
    made = report["solved_with"]
    solved = set(report["solved"])
    models = sorted({attempt["model"] for attempt in attempts if attempt.get("model")})
    results = []
    for task_id, task in sorted(picks.items()):
        own = [attempt for attempt in attempts if attempt["task_id"] == task_id]
        results.append(
            {
                "problem_id": task_id,
                "correct": task_id in solved,
                "accepted": task["accepted"],
                "attempts": len(own),
                "predictions": [test["grids"] for test in task["tests"]],
                "texts": [attempt["text"] for attempt in own],
                "parse_failures": parse_failures(own),
                "tokens": tokens(own),
                "seconds": seconds.get(task_id),
            }
        )
    total = len(results)
    content = {
        "format_version": 1,
        "config": {
            "model_name": models[0] if models else None,
            "subset": made.get("split"),
            "max_attempts": made.get("solver", {}).get("max_attempts"),
            "num_problems": total,
            "data": made.get("data_version"),
        },
        "summary": {"total": total, "correct": len(solved), "accuracy": len(solved) / total if total else 0.0},
        "parse_failures": parse_failures(attempts),
        "tokens": tokens(attempts),
        "seconds": sum(seconds.values()) if set(picks) <= set(seconds) else None,
        "results": results,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


EVAL_RESULTS = "eval_results.json"


def write_eval_results(
    folder: Path, *, accuracy: float, avg_loss: float | None, avg_steps: float, total_examples: int
) -> None:
    """Write eval_results.json into an evaluation's folder.

    Args:
        accuracy: share of the examples (test inputs, puzzles) whose first grid is right in every cell.
        avg_loss: mean cross-entropy of a puzzle. None for votes: a grid that several views or checkpoints voted for
            has no logits, and the vote stage that answers ARC tasks reads no answers.
        avg_steps: mean ACT steps per row.
    """
    figures = {"accuracy": accuracy, "avg_loss": avg_loss, "avg_steps": avg_steps, "total_examples": total_examples}
    (folder / EVAL_RESULTS).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


NO_GRID: GridRows = [[0]]
"""Grid in a submission where no attempt proposed one, since the format requires a grid; picks.json has no entry."""
Rows = Sequence[Mapping[str, Any]]


def write_submission(path: Path, tasks: Sequence[Task], picks: Rows) -> None:
    """Write Kaggle's submission.json, read it back and check it. Raises StageError when the file is incomplete."""
    content: dict[str, Any] = {}
    for task in tasks:
        tests = []
        for test_index in range(len(task.tests)):
            rows = [row for row in rows_of(picks, task) if row["test_index"] == test_index]
            grids = [row["grid"] for row in sorted(rows, key=lambda row: row["rank"])] or [NO_GRID]
            tests.append({"attempt_1": grids[0], "attempt_2": grids[-1]})
        content[task.task_id] = tests
    write_compact(path, content)
    check_submission(path, tasks)


def check_submission(path: Path, tasks: Sequence[Task]) -> None:
    """Raise StageError unless the file answers every test input of every task with two well-formed grids."""
    found = json.loads(path.read_text(encoding="utf-8"))
    wrong = [f"{task.task_id}: missing" for task in tasks if task.task_id not in found]
    wrong += [f"{name}: not a task of this split" for name in found if name not in {task.task_id for task in tasks}]
    for task in tasks:
        answers = found.get(task.task_id, [])
        if len(answers) != len(task.tests):
            wrong.append(f"{task.task_id}: {len(answers)} answers for {len(task.tests)} test inputs")
        for number, answer in enumerate(answers, start=1):
            for name in ("attempt_1", "attempt_2"):
                if not _is_grid(answer.get(name)):
                    wrong.append(f"{task.task_id}, test input {number}: {name} is not a grid")
    if wrong:
        problems = "; ".join(wrong[:3])
        raise StageError(f"{path.name} is not a complete submission: {problems}", "this is a fault of gridloom")


def rows_of(picks: Rows, task: Task) -> list[Mapping[str, Any]]:
    return [row for row in picks if row["task_id"] == task.task_id]


def _is_grid(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 30
        and all(isinstance(row, list) and len(row) == len(value[0]) and 1 <= len(row) <= 30 for row in value)
        and all(type(cell) is int and 0 <= cell <= 9 for row in value for cell in row)
    )


def write_compact(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")
