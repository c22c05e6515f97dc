"""results.json: how every task went, task by task, in the shape that runners of language models write.

Made once the loop is over and the picks are compared with the answers; unlike report.json it tells times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gridloom.solvers.parsing import parse_grid
from gridloom.stores.ledger import Ledger

RESULTS = "results.json"

Attempt = Mapping[str, Any]
"""A line of attempts.jsonl."""


def parse_failures(attempts: Sequence[Attempt]) -> int:
    """Count the attempts whose text holds no grid; those of a TRM alone have no text."""
    return sum(attempt["text"] is not None and parse_grid(attempt["text"]) is None for attempt in attempts)


def tokens(attempts: Sequence[Attempt]) -> int:
    """Count the tokens that the LLaMA read and wrote."""
    return sum((attempt.get("prompt_tokens") or 0) + (attempt.get("new_tokens") or 0) for attempt in attempts)


def seconds_by_task(ledger: Ledger, run_id: str, stage: str) -> dict[str, float]:
    """Return what the ledger says each task's attempts took, waiting for shared batches left out."""
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
    attempts: Sequence[Attempt],
    seconds: Mapping[str, float],
) -> None:
    """Write the file.

    Args:
        report: what `score.make_report` gave, with the meta of the solve stage under `solved_with`.
        picks: picks.json, by task.
        seconds: by task; of a task that is not in this ledger, none.
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
