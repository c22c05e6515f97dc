"""The ablate stage: comparison of score reports with own, shuffled and zero latents of the LLaMA.

The stage reads reports, never an answer. Both runs have the same tasks, so the interval is that of a paired difference.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import comb, sqrt
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.evaluation.compare import REPORT
from gridloom.runtime.stage import StageContext
from gridloom.stores.artifacts import Artifact


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results of a run with other latents beside a run with own latents, over the same tasks."""

    latents: str
    """Latents of the other run: shuffled or zero."""
    num_tasks: int
    own: float
    """Share of tasks solved with own latents, in [0, 1]."""
    other: float
    """Share of tasks solved with the other latents, in [0, 1]."""
    difference: float
    """Difference own - other, above 0 where the latents help."""
    interval: tuple[float, float]
    """95% interval of the paired difference (Agresti and Min 2005)."""
    only_own: int
    """Number of tasks solved with own latents only."""
    only_other: int
    """Number of tasks solved with the other latents only."""
    p_value: float
    """p-value of an exact two-sided sign test over the tasks that exactly one run solved."""
    cell_accuracy_difference: float
    """Difference own - other of the runs' mean cell accuracies."""

    def line(self) -> str:
        """Return the comparison as one line of text."""
        low, high = self.interval
        effect = "helps" if low > 0 else "harms" if high < 0 else "makes no difference that these tasks can show"
        return (
            f"own {self.own:.1%}, {self.latents} {self.other:.1%}: difference {self.difference:+.1%} "
            f"[{low:+.1%}, {high:+.1%}], {self.only_own} tasks solved by own alone, {self.only_other} by "
            f"{self.latents} alone, p {self.p_value:.2f}: the LLaMA's latent {effect}"
        )


class Ablate:
    """Kind `ablate`. Inputs: reports by the fields `own`, `shuffled`, `zero`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Compare the reports, write report.json, and print one line per comparison. Raises StageError."""
        reports = {name: _read(inputs[name].path) for name in ("own", "shuffled", "zero") if name in inputs}
        found = [compare(name, reports["own"], reports[name]) for name in ("shuffled", "zero") if name in reports]
        for one in found:
            context.progress.say(one.line())
            name = one.latents
            context.notes.update(
                {
                    f"{name}_difference": one.difference,
                    f"{name}_difference_low": one.interval[0],
                    f"{name}_difference_high": one.interval[1],
                    f"{name}_only_own": one.only_own,
                    f"{name}_only_other": one.only_other,
                    f"{name}_p_value": one.p_value,
                }
            )
        report = {
            "format_version": 1,
            "comparisons": [asdict(one) for one in found],
            "reports": {name: inputs[name].key for name in reports},
        }
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def compare(latents: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison:
    """Compare two score reports. Raises StageError for different tasks, or reports with unexpected latents."""
    same = ("data_digest", "split", "num_tasks")
    for name in same:
        have, want = own["solved_with"].get(name), other["solved_with"].get(name)
        if have != want:
            raise StageError(
                f"the reports are not of the same tasks: {name} is {have!r} with own latents, {want!r} with {latents}",
                "give the solve stages the same data, split and limit",
            )
    wanted = {"own": own, latents: other}
    for name, report in wanted.items():
        actual = report["solved_with"]["solver"].get("latents", "own")
        if actual != name:
            raise StageError(
                f"the report given as '{name}' was made with latents: {actual}",
                f"score a solve stage with  latents: {name}",
            )
    number = int(own["num_tasks"])
    mine, theirs = set(own["solved"]), set(other["solved"])
    only_own, only_other = len(mine - theirs), len(theirs - mine)
    return Comparison(
        latents=latents,
        num_tasks=number,
        own=len(mine) / number,
        other=len(theirs) / number,
        difference=(only_own - only_other) / number,
        interval=paired_interval(only_own, only_other, number),
        only_own=only_own,
        only_other=only_other,
        p_value=sign_test(only_own, only_other),
        cell_accuracy_difference=float(own["cell_accuracy"]) - float(other["cell_accuracy"]),
    )


def paired_interval(plus: int, minus: int, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the interval of (plus - minus) / number over paired tasks: Wald with half a task added to each cell.

    A bootstrap would give [0, 0] where no task is solved, for any number of tasks.
    """
    more, less, total = plus + 0.5, minus + 0.5, number + 2
    centre = (more - less) / total
    half = z * sqrt(more + less - (more - less) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def sign_test(plus: int, minus: int) -> float:
    """Return the exact two-sided p-value of `plus` against `minus` under a fair coin; 1 where both are 0."""
    number = plus + minus
    tail: float = sum(comb(number, k) for k in range(min(plus, minus) + 1)) / 2**number
    return min(1.0, 2.0 * tail)


def _read(folder: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StageError(f"cannot read the score report in {folder}: {error}", "run the score stage again") from error
    if "solved_with" not in report:
        raise StageError(f"the report in {folder} is no score", "name score stages in the ablate stage")
    return report
