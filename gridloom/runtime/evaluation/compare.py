"""Comparison of picks with held-out answers: exact match, shape match, cell accuracy, pass@k."""

from __future__ import annotations

from typing import Any

import numpy as np

from gridloom.runtime.data.files.grids import GridRows
from gridloom.runtime.data.tasks import Grid

REPORT = "report.json"


def compare(grid: GridRows, answer: Grid) -> dict[str, Any]:
    """Return exact_match, shape_match and cell_accuracy of a grid; cell_accuracy is 0 when the shapes differ."""
    proposed = np.asarray(grid, dtype=np.uint8)
    if proposed.shape != answer.shape:
        return {"exact_match": False, "shape_match": False, "cell_accuracy": 0.0}
    return {
        "exact_match": bool(np.array_equal(proposed, answer)),
        "shape_match": True,
        "cell_accuracy": float((proposed == answer).mean()),
    }
