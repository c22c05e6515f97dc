"""Reports of `models check` on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gridloom.wording import duration, printable

if TYPE_CHECKING:
    from gridloom.runtime.model_check.check import Report


def print_report(report: Report, quiet: bool) -> None:
    """Print a report: one line with `quiet`, else also weights by part, losses, and weights without a gradient."""
    if report.ok:
        print(f"ok    {printable(report.recipe)}: {report.kind}, {report.total:,} weights")
    else:
        print(f"FAIL  {printable(report.recipe)}: {printable(report.reason or '')}")
    if quiet:
        return
    if report.parts:
        print(f"      parts       {', '.join(report.parts)}")
    for part, count in report.parameters.items():
        print(f"      {part:<11} {count:>13,}  {count / report.total:6.1%}")
    if report.memory_bytes is not None:
        print(f"      memory      {report.memory_bytes / 1e9:13.2f} GB, estimate of a training step")
    if report.first_loss is not None and report.last_loss is not None:
        print(f"      overfit     loss {report.first_loss:.3f} to {report.last_loss:.3f}")
    for reason in dict.fromkeys(report.without_gradient.values()):
        names = [name for name, other in report.without_gradient.items() if other == reason]
        shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
        print(f"      no gradient {shown}: {reason}")
    if report.answer:
        print(f"      generated   {' '.join(map(str, report.answer))} ...")
    print(f"      passed      {', '.join(report.phases) or 'nothing'} in {duration(report.seconds)}")


def summary(reports: Sequence[Report]) -> str:
    """Return the last line: the number of checks and of failures."""
    failed = [report.recipe for report in reports if not report.ok]
    checks = f"{len(reports)} check{'' if len(reports) == 1 else 's'}"
    return f"{checks}, all passed" if not failed else f"{checks}, {len(failed)} failed: {', '.join(failed)}"
