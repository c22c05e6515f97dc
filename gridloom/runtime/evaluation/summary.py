"""Scores over test inputs that were judged: pass@k, shape match, cell accuracy. Reads no answers itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gridloom.runtime.evaluation.intervals import wilson

SETTLED = 2
"""Number of ranked grids per test input that a report covers if views were skipped. `early_stop: true` guarantees their
order as with all views; with `first` and `likely` the second grid may differ, as the report's `early_stop` records."""


def _is_first(rank: int | None, k: int) -> bool:
    """Return whether a rank is among the first k."""
    return rank is not None and rank < k


def summarise(tests: Mapping[str, Sequence[Mapping[str, Any]]], at: Sequence[int]) -> dict[str, Any]:
    """Return pass@k, and shape match and cell accuracy of the first grids, over tasks and over test inputs.

    Args:
        tests: results of each task's test inputs; `rank` is the rank of the correct grid, or None.
    """
    flat = [test for entries in tests.values() for test in entries]

    def over_tasks(values: Mapping[str, Sequence[float]]) -> float:
        return sum(sum(entries) / len(entries) for entries in values.values()) / len(values)

    def passes(test: Mapping[str, Any], k: int) -> bool:
        return _is_first(test["rank"], k)

    every_view = all(test["num_cast"] == test["num_views"] and "rank_of_original" in test for test in flat)
    original = {
        k: over_tasks({task: [_is_first(t["rank_of_original"], k) for t in entries] for task, entries in tests.items()})
        for k in (at if every_view else ())
    }
    shares = {k: over_tasks({task: [passes(t, k) for t in entries] for task, entries in tests.items()}) for k in at}
    return {
        "num_tasks": len(tests),
        "num_test_inputs": len(flat),
        "pass_at": {str(k): share for k, share in shares.items()},
        **({"pass_at_of_original": {str(k): share for k, share in original.items()}} if every_view else {}),
        "pass_at_intervals": {str(k): wilson(share, len(tests)) for k, share in shares.items()},
        "pass_at_of_test_inputs": {str(k): sum(passes(test, k) for test in flat) / len(flat) for k in at},
        "solved": sorted(task for task, entries in tests.items() if all(passes(test, SETTLED) for test in entries)),
        **{
            name: over_tasks({task: [float(test[name]) for test in entries] for task, entries in tests.items()})
            for name in ("shape_match", "cell_accuracy")
        },
        "num_views_cast": sum(test["num_cast"] for test in flat),
        "num_views": sum(test["num_views"] for test in flat),
        "denominators": {
            "pass_at, shape_match, cell_accuracy": "mean over the split's tasks of the mean over a task's test inputs",
            "pass_at_of_test_inputs": "test inputs",
            **(
                {
                    "pass_at_of_original": "as pass_at, with answers that are no grid as one candidate (0x0), as "
                    "TinyRecursiveModels counts; only where every view has voted"
                }
                if every_view
                else {}
            ),
            "shape_match, cell_accuracy": "of the grid with most votes; a test input without any counts as 0",
            "solved": "tasks all of whose test inputs are right at pass@2",
            "pass_at_intervals": "Wilson, 95%, over tasks",
        },
    }
