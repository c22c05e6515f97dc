"""Comparison of runs as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from gridloom.runtime.evaluation.intervals import share_text

if TYPE_CHECKING:
    from gridloom.runtime.reports.comparison import Metric, Result


LEAST = ("time", "FLOPs", "parameters", "LLaMA tokens", "attempts")
"""Columns that a narrow terminal leaves out, the last one first."""
MAX_COLUMNS = 6
"""Maximum number of differing fields in a table; `--json` and `--csv` give all."""


def print_comparison(results: tuple[Result, ...]) -> None:
    """Print results as a table, with an explanation of its figures."""
    from gridloom.cli.show.tables import print_table, rows_table

    rows = _shown(results)
    fields = _short_names(list(results[0].differs)[:MAX_COLUMNS]).values() if results else ()
    metrics = _in_order(name for one in results for name in one.metrics)
    least = ["status", *[*fields][1:], *metrics[1:], *LEAST]
    print_table(rows_table(rows, drop=[name for name in least if rows and name in rows[0]]))
    hidden = len(results[0].differs) - MAX_COLUMNS
    if hidden > 0:
        print(f"{hidden} more fields differ: --json shows all")
    print("intervals: Wilson, 95%. Time and FLOPs: of each result and everything it is made from.")


def _shown(results: tuple[Result, ...]) -> list[dict[str, Any]]:
    """Return rows for a terminal; columns in which all results have nothing are left out."""
    from gridloom.cli.show.tables import short
    from gridloom.wording import duration

    several = len({one.run_id for one in results}) > 1
    metrics = _in_order(name for one in results for name in one.metrics)
    paths = list(results[0].differs)[:MAX_COLUMNS]
    names = _short_names(paths)
    rows: list[dict[str, Any]] = []
    for one in results:
        row: dict[str, Any] = {"run": one.run_id} if several else {}
        row["stage"] = one.stage
        row["status"] = one.status
        row |= {names[path]: _as_set(one.differs[path]) for path in paths}
        row |= {name: _metric(one.metrics.get(name)) for name in metrics}
        row |= {
            "attempts": one.attempts,
            "LLaMA tokens": one.llm_tokens,
            "parameters": None if one.parameters is None else short(one.parameters).strip(),
            "FLOPs": None if one.flops is None else short(one.flops).strip(),
            "time": None if one.seconds is None else duration(one.seconds),
        }
        rows.append(row)
    empty = {name for name in rows[0] if name not in names.values() and all(row[name] is None for row in rows)}
    return [{name: value for name, value in row.items() if name not in empty} for row in rows]


def _in_order(names: Iterable[str]) -> list[str]:
    """Return names once, as they come first; those that end with a number side by side by it: pass2 before pass10."""
    stems: dict[str, int] = {}

    def place(name: str) -> tuple[int, int]:
        stem = name.rstrip("0123456789")
        return stems.setdefault(stem, len(stems)), int(name[len(stem) :] or 0)

    return [name for _, name in sorted((place(name), name) for name in dict.fromkeys(names))]


def _as_set(value: Any) -> Any:
    """Return a field's value without the parts of it that are not set."""
    if isinstance(value, dict):
        return {name: _as_set(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_as_set(part) for part in value]
    return value


def _short_names(paths: list[str]) -> dict[str, str]:
    """Return the shortest ends of paths that tell them apart: `optimizer.lr` becomes `lr` where no other ends so."""
    found = {}
    for path in paths:
        parts = path.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        found[path] = next(end for end in ends if sum(f".{p}".endswith(f".{end}") for p in paths) == 1)
    return found


def _metric(metric: Metric | None) -> str | None:
    if metric is None:
        return None
    if metric.low is None or metric.high is None:
        return f"{metric.value:.4g}"
    return share_text(metric.value, (metric.low, metric.high))
