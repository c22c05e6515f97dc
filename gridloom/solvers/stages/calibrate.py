"""The calibrate stage: precision and recall of the verifiers, measured on tasks with known answers.

Three stages read held-out answers: calibrate, score and count_votes. Of the three only calibrate can be an input of a
solve stage; the compiler refuses a calibration on tasks that the solve stage solves. The artifact holds a threshold and
figures, and no answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.data.arc.answers import load_answers
from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.evaluation.compare import compare
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.stage import StageContext
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.solvers.stages.threshold import CALIBRATION, FORMAT_VERSION
from gridloom.specs.stages import CalibrateStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import CalibrationRecord

ALL = "all"
"""Name of the weighted mean in the list of verifiers."""
STEPS = 20
"""Number of intervals of equally spaced thresholds in [0, 1] that are recorded beside the chosen threshold."""


@dataclass(frozen=True, slots=True)
class Point:
    """Counts of attempts that one threshold accepts."""

    threshold: float
    accepted: int
    accepted_right: int
    num_right: int

    @property
    def precision(self) -> float | None:
        """Share of the accepted attempts that are right; None where none is accepted."""
        return self.accepted_right / self.accepted if self.accepted else None

    @property
    def recall(self) -> float | None:
        """Share of the right attempts that are accepted; None where none is right."""
        return self.accepted_right / self.num_right if self.num_right else None


@dataclass(frozen=True, slots=True)
class VerifierScores:
    """Scores of one verifier over the attempts that it could score."""

    name: str
    scores: tuple[tuple[float, bool], ...]
    """(score, whether the attempt is right) of each attempt."""

    def at(self, threshold: float) -> Point:
        """Return the counts of attempts with a score of at least `threshold`."""
        accepted = [right for score, right in self.scores if score >= threshold]
        return Point(threshold, len(accepted), sum(accepted), sum(right for _, right in self.scores))

    def chosen(self, precision: float) -> tuple[Point | None, bool]:
        """Return the lowest threshold that reaches the precision and True, else the most precise and False."""
        points = [self.at(score) for score in sorted({score for score, _ in self.scores})]
        for point in points:
            if (point.precision or 0.0) >= precision:
                return point, True
        return max(points, key=lambda point: (point.precision or 0.0, point.accepted), default=None), False


class Calibrate:
    """Kind `calibrate`. Inputs: attempts, and the answers of their tasks."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Compare every attempt with the answers; write the ledger's table `calibrations` and calibration.json.

        Raises:
            StageError: there are no attempts, or a task has no answer.
        """
        stage = node.section(CalibrateStage)
        attempts = inputs["attempts"]
        lines = outputs.read_attempts(attempts.path)
        answers = load_answers(inputs["answers"].path)
        measured = measure(lines, answers)
        producer = attempts.manifest.get("producer", {})
        combined = measured[0]
        point, reached = combined.chosen(stage.precision)
        assert point is not None, "there are attempts, and all have a combined score"
        records = []
        for one in measured:
            best, _ = one.chosen(stage.precision)
            chosen = {best.threshold} if best else set[float]()
            for threshold in sorted(chosen.union(step / STEPS for step in range(STEPS + 1))):
                at = one.at(threshold)
                records.append(
                    CalibrationRecord(
                        run_id=context.run_id,
                        stage=node.name,
                        solve_run_id=producer.get("run_id"),
                        solve_stage=str(producer.get("stage", stage.attempts)),
                        verifier=one.name,
                        threshold=threshold,
                        attempts=len(one.scores),
                        num_right=at.num_right,
                        accepted=at.accepted,
                        accepted_right=at.accepted_right,
                        precision=at.precision,
                        recall=at.recall,
                        is_chosen=threshold in chosen,
                    )
                )
        context.ledger.append(*records)
        found = {
            "format_version": FORMAT_VERSION,
            "threshold": point.threshold if reached else None,
            "wanted_precision": stage.precision,
            "precision": point.precision,
            "precision_interval": wilson(point.precision or 0.0, point.accepted),
            "recall": point.recall,
            "num_accepted": point.accepted,
            "num_attempts": len(combined.scores),
            "num_right": point.num_right,
            "num_tasks": len({line["task_id"] for line in lines}),
            "attempts": attempts.key,
            "verifiers": [_figures(one, stage.precision) for one in measured],
        }
        text = json.dumps(found, sort_keys=True, indent=1) + "\n"
        (context.out / CALIBRATION).write_text(text, encoding="utf-8")
        noted = ("threshold", "precision", "recall", "num_accepted", "num_attempts", "num_right", "num_tasks")
        context.notes.update({name: found[name] for name in noted})
        context.progress.say(_line(node.name, found, reached))


def measure(lines: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[Grid]]) -> list[VerifierScores]:
    """Return the scores of the weighted mean, then of every verifier, over the attempts.

    Raises:
        StageError: there are no attempts, or a task has no answer.
    """
    if not lines:
        raise StageError("there are no attempts to calibrate on", "raise the limit of the solve stage")
    missing = sorted({line["task_id"] for line in lines} - set(answers))
    if missing:
        raise StageError(f"no answer for {len(missing)} tasks, first {missing[0]}", "calibrate on tasks with answers")
    scores: dict[str, list[tuple[float, bool]]] = {ALL: []}
    for line in lines:
        wanted = answers[line["task_id"]]
        right = all(compare(grid, answer)["exact_match"] for grid, answer in zip(line["grids"], wanted, strict=True))
        scores[ALL].append((line["score"], right))
        for name, signal in line["signals"].items():
            own = scores.setdefault(name, [])
            if signal["score"] is not None:
                own.append((signal["score"], right))
    return [VerifierScores(name, tuple(pairs)) for name, pairs in scores.items()]


def _figures(one: VerifierScores, precision: float) -> dict[str, Any]:
    point, reached = one.chosen(precision)
    if point is None:
        return {"verifier": one.name, "num_attempts": 0}
    return {
        "verifier": one.name,
        "num_attempts": len(one.scores),
        "reached": reached,
        "precision": point.precision,
        "recall": point.recall,
        **asdict(point),
    }


def _line(name: str, found: Mapping[str, Any], reached: bool) -> str:
    counts = f"{found['num_attempts']} attempts at {found['num_tasks']} tasks, {found['num_right']} of them right"
    if not reached:
        return (
            f"{name}: {counts}; no threshold makes {found['wanted_precision']:.0%} of the accepted right (the best "
            f"{found['precision']:.0%}), so that nothing will be accepted"
        )
    low, high = found["precision_interval"]
    return (
        f"{name}: {counts}; from {found['threshold']:.3f} on {found['num_accepted']} are accepted, "
        f"{found['precision']:.0%} of them right [{low:.0%}, {high:.0%}]: {found['recall']:.0%} of all right ones"
    )
