"""The ablate stage: does the LLaMA help? Compares score reports made with its own, shuffled and zero latents.

It reads reports, never an answer. Tasks are paired: both runs saw the same ones, so the interval is of the difference.
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
    """How a run with other latents did beside the run with the tasks' own, over the same tasks."""

    latents: str
    """shuffled or zero."""
    num_tasks: int
    own: float
    """Share of tasks solved with their own latents."""
    other: float
    difference: float
    """own - other: above 0 where the latents help."""
    interval: tuple[float, float]
    """95%, of the paired difference (Agresti and Min 2005)."""
    only_own: int
    """Tasks solved with their own latents only."""
    only_other: int
    p_value: float
    """Exact two-sided sign test over the tasks that one of the two solved."""
    cell_accuracy_difference: float
    """Difference of the runs' mean cell accuracies."""

    def line(self) -> str:
        """Say it in one line."""
        low, high = self.interval
        says = "helps" if low > 0 else "harms" if high < 0 else "makes no difference that these tasks can show"
        return (
            f"own {self.own:.1%}, {self.latents} {self.other:.1%}: difference {self.difference:+.1%} "
            f"[{low:+.1%}, {high:+.1%}], {self.only_own} tasks solved by own alone, {self.only_other} by "
            f"{self.latents} alone, p {self.p_value:.2f}: the LLaMA's latent {says}"
        )


class Ablate:
    """Kind `ablate`. Inputs: reports by the fields `own`, `shuffled`, `zero`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Compare the reports, write report.json and say what came out."""
        reports = {name: _read(inputs[name].path) for name in ("own", "shuffled", "zero") if name in inputs}
        found = [compare(name, reports["own"], reports[name]) for name in ("shuffled", "zero") if name in reports]
        for one in found:
            context.progress.say(one.line())
            context.notes[f"{one.latents}_difference"] = one.difference
        report = {
            "format_version": 1,
            "comparisons": [asdict(one) for one in found],
            "reports": {name: inputs[name].key for name in reports},
        }
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")


def compare(latents: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> Comparison:
    """Compare two score reports. Raises StageError unless they are of the same tasks."""
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
        said = report["solved_with"]["solver"].get("latents", "own")
        if said != name:
            raise StageError(
                f"the report given as '{name}' was made with latents: {said}",
                f"score a solve stage that says  latents: {name}",
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
    """Return the 95% interval of (plus - minus) / number over paired tasks: Wald with half a task added a cell.

    A bootstrap would say [0, 0] where no task is solved, however few there are.
    """
    more, less, total = plus + 0.5, minus + 0.5, number + 2
    centre = (more - less) / total
    half = z * sqrt(more + less - (more - less) ** 2 / total) / total
    return max(-1.0, centre - half), min(1.0, centre + half)


def sign_test(plus: int, minus: int) -> float:
    """Return the exact two-sided p-value of `plus` against `minus` under a fair coin; 1 where there are none."""
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
