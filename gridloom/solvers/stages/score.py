"""The score stage: comparison of the picks with the held-out answers.

Three stages read held-out answers: score, calibrate and count_votes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.data.arc.answers import load_answers
from gridloom.runtime.evaluation.compare import REPORT, compare
from gridloom.runtime.evaluation.intervals import wilson
from gridloom.runtime.interop.result_files import RESULTS, parse_failures, seconds_by_task, write_results
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import SOLVE_PROJECT, send_report
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.stores.artifacts import Artifact
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import ScoreRecord


def _write_results(
    report: Mapping[str, Any],
    picks: Mapping[str, Mapping[str, Any]],
    attempts: Artifact,
    producer: Mapping[str, Any],
    context: StageContext,
) -> None:
    lines = outputs.read_attempts(attempts.path)
    run_id, stage = producer.get("run_id", context.run_id), str(producer.get("stage", ""))
    seconds = seconds_by_task(Ledger(context.ledger.workspace), run_id, stage)
    write_results(context.out / RESULTS, report=report, picks=picks, attempts=lines, seconds=seconds)
    if any(line["text"] is not None for line in lines):
        context.notes["parse_failures"] = parse_failures(lines)


class TestScore:
    """Comparison of the picks for one test input with its answer."""

    __test__ = False  # pytest would collect the class for its name

    def __init__(self, compared: list[dict[str, Any]]) -> None:
        self.first = bool(compared[0]["exact_match"])
        self.either = any(score["exact_match"] for score in compared)
        self.shape = any(score["shape_match"] for score in compared)
        self.cells = max(float(score["cell_accuracy"]) for score in compared)


def make_report(tasks: Mapping[str, list[TestScore]], accepted: Mapping[str, bool]) -> dict[str, Any]:
    """Return the report: shares are means over tasks of means over test inputs, as in ARC; intervals are over tasks."""
    num_tasks = len(tasks)

    def mean(what: str) -> float:
        per_task = [sum(float(getattr(test, what)) for test in tests) / len(tests) for tests in tasks.values()]
        return sum(per_task) / num_tasks

    pass1, pass2 = mean("first"), mean("either")
    accepted_ids = [task_id for task_id, is_accepted in accepted.items() if is_accepted]
    right = [task_id for task_id in accepted_ids if all(test.first for test in tasks[task_id])]
    return {
        "format_version": 1,
        "num_tasks": num_tasks,
        "num_test_inputs": sum(len(tests) for tests in tasks.values()),
        "pass1": pass1,
        "pass1_interval": wilson(pass1, num_tasks),
        "pass2": pass2,
        "pass2_interval": wilson(pass2, num_tasks),
        "solved": sorted(task_id for task_id, tests in tasks.items() if all(test.either for test in tests)),
        "shape_match": mean("shape"),
        "cell_accuracy": mean("cells"),
        "num_accepted": len(accepted_ids),
        "num_accepted_right": len(right),
        "precision": len(right) / len(accepted_ids) if accepted_ids else None,
        "denominators": {
            "pass1, pass2, shape_match, cell_accuracy": "mean over tasks of the mean over the task's test inputs",
            "precision": "accepted tasks; right when the first pick of every test input is exact",
            "intervals": "Wilson, 95%, over tasks",
        },
    }


def _meta(folder: Path) -> dict[str, Any]:
    path = folder / outputs.META
    meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return meta


class Score:
    """Kind `score`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write one score per pick to the ledger, and report.json. Raises StageError when a task has no answer."""
        attempts = inputs["attempts"]
        picks = outputs.read_picks(attempts.path)
        answers = load_answers(inputs["answers"].path)
        missing = sorted(set(picks) - set(answers))
        if missing:
            raise StageError(
                f"no answer for {len(missing)} tasks, first {missing[0]}",
                "score with the answers of the same data entry",
            )
        producer = attempts.manifest.get("producer", {})
        records = []
        tasks: dict[str, list[TestScore]] = {}
        for task_id, task in sorted(picks.items()):
            tasks[task_id] = []
            for test_index, (test, answer) in enumerate(zip(task["tests"], answers[task_id], strict=True)):
                compared = [compare(grid, answer) for grid in test["grids"]] or [compare([], answer)]
                tasks[task_id].append(TestScore(compared))
                records += [
                    ScoreRecord(
                        run_id=context.run_id,
                        stage=node.name,
                        solve_stage=str(producer.get("stage", node.spec.get("attempts", ""))),
                        solve_run_id=producer.get("run_id"),
                        task_id=task_id,
                        test_index=test_index,
                        rank=rank,
                        **score,
                    )
                    for rank, score in enumerate(compared)
                ]
        context.ledger.append(*records)
        report = make_report(tasks, {task_id: bool(task["accepted"]) for task_id, task in picks.items()})
        report["attempts"] = attempts.key
        report["solved_with"] = _meta(attempts.path)
        text = json.dumps(report, sort_keys=True, indent=1) + "\n"
        (context.out / REPORT).write_text(text, encoding="utf-8")
        noted = ("pass2", "pass1", "shape_match", "cell_accuracy", "num_tasks")
        context.notes.update({name: report[name] for name in noted})
        _write_results(report, picks, attempts, producer, context)
        send_report(SOLVE_PROJECT, node, context, report, inputs)
