"""Lines of an evaluation on sequences: shares, steps, and a line a range of difficulty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gridloom.runtime.evaluation.intervals import share_text

NUM_RANGES = 8
"""Largest number of ranges of difficulty that are shown; report.json has every difficulty."""


def sequence_lines(stage: str, report: Mapping[str, Any], who: Callable[[dict[str, Any]], str]) -> Iterator[str]:
    """Yield the lines of a report; `who` describes what was evaluated."""
    data, margin = report["data"], f"{'':{len(stage)}}"
    yield f"{stage}  {data['kind']}, {report['num_sequences']:,} rows of the test stream, {who(report['evaluated'])}"
    if "accuracy_sequence" in report:
        shares = [f"sequences {share_text(report['accuracy_sequence'], report['accuracy_sequence_interval'])}"]
        step, place = report["accuracy_step"], report["accuracy_place"]
        shares += [f"steps {step:.1%}"] if step not in (place, report["accuracy_sequence"]) else []
        shares += [f"places {place:.1%}"] if place != report["accuracy_sequence"] else []
        yield f"{margin}  {'   '.join(shares)}"
    steps = f"ACT steps {report['act_steps']:.2f} (half of the rows up to {report['act_steps_p50']:.1f}, nine tenths "
    steps += f"up to {report['act_steps_p90']:.1f})"
    yield f"{margin}  {steps}" + (
        f"   halted by themselves {report['halt_natural']:.1%}" if "halt_natural" in report else ""
    )
    ranges = list(_ranges(report["by_difficulty"]))
    if len(ranges) > 1:
        width = max(len(name) for name, *_ in ranges)
        for name, rows, right, scored, made in ranges:
            share = f"{right / scored:6.1%}" if scored else "     -"
            yield f"{margin}  {report['difficulty']} {name:>{width}}: {share} of {rows:,} rows, {made:.2f} ACT steps"
    for member in report.get("members", ()):
        yield f"{margin}  {who(member)} alone: sequences {member.get('exact', 0):.1%}"


def _ranges(table: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, int, int, int, float]]:
    """Yield (range, rows, rows right, rows scored, mean steps) of consecutive difficulties, in equal parts."""
    size = -(-len(table) // NUM_RANGES)
    for first in range(0, len(table), size):
        part = table[first : first + size]
        low, high = part[0]["difficulty"], part[-1]["difficulty"]
        rows, right, scored = (sum(row[name] for row in part) for name in ("rows", "right", "scored"))
        steps = sum(row["rows"] * row["mean_steps"] for row in part) / rows
        yield f"{low}" if low == high else f"{low}-{high}", rows, right, scored, steps
