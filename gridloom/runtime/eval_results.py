"""eval_results.json: the four figures that the earlier evaluation script wrote, for programs that read its file."""

from __future__ import annotations

import json
from pathlib import Path

EVAL_RESULTS = "eval_results.json"


def write_eval_results(folder: Path, *, accuracy: float, avg_steps: float, total_examples: int) -> None:
    """Write the file into an evaluation's folder.

    Its `avg_loss` is null: answers are voted for and compared as grids, and no loss is taken against them.

    Args:
        accuracy: share of the examples (test inputs, puzzles) whose first grid is right in every cell.
        avg_steps: ACT steps a row.
    """
    figures = {"accuracy": accuracy, "avg_loss": None, "avg_steps": avg_steps, "total_examples": total_examples}
    (folder / EVAL_RESULTS).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
