"""eval_results.json: the four figures that the earlier evaluation script wrote, for programs that read its file."""

from __future__ import annotations

import json
from pathlib import Path

EVAL_RESULTS = "eval_results.json"


def write_eval_results(
    folder: Path, *, accuracy: float, avg_loss: float | None, avg_steps: float, total_examples: int
) -> None:
    """Write the file into an evaluation's folder.

    Args:
        accuracy: share of the examples (test inputs, puzzles) whose first grid is right in every cell.
        avg_loss: a puzzle's loss against its solution. None for what votes: a grid that several views or checkpoints
            voted for has no logits, and the network that answers ARC tasks runs where no answer can be read.
        avg_steps: ACT steps a row.
    """
    figures = {"accuracy": accuracy, "avg_loss": avg_loss, "avg_steps": avg_steps, "total_examples": total_examples}
    (folder / EVAL_RESULTS).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
