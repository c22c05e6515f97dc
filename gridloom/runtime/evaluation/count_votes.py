"""Second half of an evaluation on ARC tasks: rank of the correct grid among the votes. Runs no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError
from gridloom.runtime.data.arc.answers import load_answers
from gridloom.runtime.data.tasks import Grid
from gridloom.runtime.evaluation.ballots import rank as sort_key
from gridloom.runtime.evaluation.compare import REPORT, compare
from gridloom.runtime.evaluation.described import steps_trained
from gridloom.runtime.evaluation.summary import SETTLED, summarise
from gridloom.runtime.evaluation.tracking import recorder
from gridloom.runtime.evaluation.vote import FORMAT_VERSION, VOTES
from gridloom.runtime.interop.result_files import write_eval_results
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import EVALUATE_PROJECT, send_report
from gridloom.stores.artifacts import Artifact
from gridloom.stores.evaluation_records import EvaluationRecord

PASS_AT = (1, 2, 5, 10, 100, 1000)


class CountVotes:
    """Runner of kind `count_votes`. Inputs: `votes` and `answers`."""

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Write report.json, one ledger row per test input, and one metric per share.

        Raises StageError when an answer is missing, or votes.json is damaged.
        """
        voted = _read(inputs["votes"].path / VOTES)
        answers = load_answers(inputs["answers"].path)
        if missing := sorted(set(voted["tasks"]) - set(answers)):
            raise StageError(
                f"no answer for {len(missing)} tasks, first {missing[0]}",
                "evaluate with the answers of the same data entry",
            )
        tests = _judged(voted["tasks"], answers)
        producer = inputs["votes"].manifest.get("producer", {})
        context.ledger.append(
            *(
                EvaluationRecord(
                    run_id=context.run_id,
                    stage=node.name,
                    task_id=task_id,
                    test_index=number,
                    vote_run_id=producer.get("run_id"),
                    vote_stage=str(producer.get("stage", node.inputs.get("votes", ""))),
                    **judged,
                )
                for task_id, judgements in tests.items()
                for number, judged in enumerate(judgements)
            )
        )
        at = [k for k in PASS_AT if k <= SETTLED or not voted["evaluated"]["early_stop"]]
        report = {
            "format_version": FORMAT_VERSION,
            "evaluated": voted["evaluated"],
            "data": voted["data"],
            "votes": inputs["votes"].key,
            **summarise(tests, at),
        }
        if members := voted["evaluated"].get("ensemble"):
            report["members"] = [
                {**member, **_member_figures(voted["tasks"], number, answers, at)}
                for number, member in enumerate(members)
            ]
        (context.out / REPORT).write_text(json.dumps(report, sort_keys=True, indent=1) + "\n", encoding="utf-8")
        write_eval_results(
            context.out,
            accuracy=report["pass_at_of_test_inputs"]["1"],
            avg_loss=None,
            avg_steps=voted["evaluated"]["mean_act_steps"],
            total_examples=report["num_test_inputs"],
        )
        figures = {f"pass{k}": share for k, share in report["pass_at"].items()}
        figures |= {name: report[name] for name in ("cell_accuracy", "shape_match", "num_tasks")}
        step = steps_trained(voted["evaluated"])
        recorder(node, context)(step, figures)
        send_report(EVALUATE_PROJECT, node, context, report, inputs, figures, step)
        context.notes.update(figures)


def _judged(tasks: Mapping[str, Any], answers: Mapping[str, Sequence[Grid]]) -> dict[str, list[dict[str, Any]]]:
    return {
        task_id: [_judge(test, answer) for test, answer in zip(entries, answers[task_id], strict=True)]
        for task_id, entries in tasks.items()
    }


def _member_figures(
    tasks: Mapping[str, Any], number: int, answers: Mapping[str, Sequence[Grid]], at: Sequence[int]
) -> dict[str, Any]:
    """Return the scores of one ensemble member's own votes."""
    own = {task_id: [test["members"][number] for test in entries] for task_id, entries in tasks.items()}
    figures = summarise(_judged(own, answers), at)
    return {name: figures[name] for name in ("pass_at", "pass_at_intervals", "shape_match", "cell_accuracy")}


def _judge(test: Mapping[str, Any], answer: Grid) -> dict[str, Any]:
    """Compare the candidate grids of a test input with the correct grid."""
    compared = [compare(candidate["grid"], answer) for candidate in test["candidates"]]
    rank = next((number for number, found in enumerate(compared) if found["exact_match"]), None)
    first = compared[0] if compared else compare([], answer)
    return {
        "rank": rank,
        # votes of earlier versions do not count the answers without a grid
        **({"rank_of_original": _rank_of_original(test, rank)} if "no_grid" in test else {}),
        "votes": 0 if rank is None else test["candidates"][rank]["votes"],
        "num_candidates": len(compared),
        "num_views": test["num_views"],
        "num_cast": test["num_cast"],
        "shape_match": first["shape_match"],
        "cell_accuracy": first["cell_accuracy"],
    }


def _rank_of_original(test: Mapping[str, Any], rank: int | None) -> int | None:
    """Return the rank of the correct grid where answers without a grid are one candidate too, 0x0 in the original."""
    empty = test.get("no_grid")
    if rank is None or not empty or not empty["votes"]:
        return rank
    right = test["candidates"][rank]
    # of two equal candidates the original keeps the order of its views, which is not recorded: the grid goes first
    return rank + (sort_key(empty["votes"], empty["confidence"]) < sort_key(right["votes"], right["confidence"]))


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content["format_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"cannot read {path}: {error}", "remove the artifact and run again") from error
    if version != FORMAT_VERSION:
        raise StageError(f"{path} has format {version}, this gridloom reads {FORMAT_VERSION}", "run again")
    return content
