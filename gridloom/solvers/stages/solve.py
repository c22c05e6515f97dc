"""The solve stage: the loop over the tasks of a split, resumable at every node, with picks and attempts as artifact."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.runtime.data.arc.dataset import Dataset, held_out_tasks, load_dataset
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.interop import result_files
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import tracked_counts
from gridloom.solvers.loop.policies import Experience, make_policy
from gridloom.solvers.loop.recording import AttemptScope, task_record
from gridloom.solvers.parts.loading import load_llm_services, load_services
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.solvers.stages.accepted_before import accepted_before, take_over
from gridloom.solvers.stages.solve_on_workers import SolveWorker, solve_on_workers
from gridloom.solvers.stages.task_loop import LoadLlmServices, LoadServices, TaskLoop, load_models, solver_key
from gridloom.solvers.stages.threshold import accepting_from, read_calibration
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.files.write_aside import replacing
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import PickRecord, as_dict


class Solve:
    """Kind `solve`."""

    def __init__(self, load: LoadServices = load_services, load_llm: LoadLlmServices = load_llm_services) -> None:
        self._load, self._load_llm = load, load_llm

    def run(self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext) -> None:
        """Solve every task of the split and write the artifact.

        Raises:
            StageInterrupted: the stop signal was set. Every finished node is checkpointed, and the next run of the same
                graph resumes there.
        """
        stage = node.section(SolveStage)
        dataset = load_dataset(inputs["data"].path)
        tasks = held_out_tasks(dataset, stage.data, stage.split, stage.limit)
        model_key = solver_key(node, stage, inputs)
        ledger = Ledger(context.ledger.workspace)
        context.ledger.append(*(task_record(context.run_id, node.name, task) for task in tasks))
        finished = _finished(ledger, context.run_id, node.name)
        earlier = inputs.get("unless_accepted")
        lines: list[dict[str, Any]] = []
        if earlier is not None:
            before = accepted_before(earlier, dataset, tasks)
            lines = [line for line in outputs.read_attempts(earlier.path) if line["task_id"] in before]
            fresh = [task for task in tasks if task.task_id in before and task.task_id not in finished]
            take_over(fresh, before, lines, AttemptScope(context.run_id, node.name, "", node.key, model_key), context)
            finished |= dict.fromkeys(before, True)
        open_tasks = [task for task in tasks if task.task_id not in finished]
        calibration = read_calibration(inputs["calibration"].path) if "calibration" in inputs else None
        if calibration:
            stage = stage.model_copy(update={"solver": accepting_from(stage.solver, calibration["threshold"])})
        began = time.perf_counter()
        accepted = sum(finished.values())
        if open_tasks:
            uses_experience = make_policy(stage.solver.policy).uses_experience
            experience = _experience(context, ledger) if uses_experience else {}
            if context.crew is not None:
                with tracked_counts(stage.wandb, node, context, inputs) as log:
                    solve_on_workers(node, inputs, open_tasks, len(tasks), accepted, experience, context, ledger, log)
            else:
                services = load_models(node, stage, inputs, tasks, context, self._load, self._load_llm)
                loop = TaskLoop(node, stage, services, model_key, context, ledger, experience)
                with tracked_counts(stage.wandb, node, context, inputs) as loop.log:
                    asyncio.run(loop.solve(open_tasks, num_tasks=len(tasks), accepted=accepted))
        context.notes["seconds"] = time.perf_counter() - began
        context.notes["resumed_tasks"] = len(finished)
        _publish(node, stage, tasks, dataset, model_key, context, ledger, calibration, lines)

    def worker(
        self, node: StageNode, inputs: Mapping[str, Artifact], context: StageContext, shared: Mapping[str, Any]
    ) -> SolveWorker:
        """Load the models of a worker, which then solves tasks of the split one by one."""
        return SolveWorker(node, inputs, context, shared, self._load, self._load_llm)


def _experience(context: StageContext, ledger: Ledger) -> Experience:
    """Return the scores of other runs by arm, as of the first start of this stage."""
    path = context.work / "experience.json"
    if not path.exists():
        rows = ledger.rows(
            "SELECT plan->>'arm' AS arm, sum(score) AS earned, count(*) AS times FROM attempts "
            "WHERE run_id <> ? AND fork = 0 AND score IS NOT NULL AND plan->>'arm' <> '' GROUP BY arm ORDER BY arm",
            [context.run_id],
        )
        with replacing(path, aside=path.with_suffix(".tmp")) as aside:
            aside.write_text(json.dumps({row["arm"]: [row["earned"], row["times"]] for row in rows}), encoding="utf-8")
    found = json.loads(path.read_text(encoding="utf-8"))
    return {arm: (float(earned), int(times)) for arm, (earned, times) in found.items()}


def _finished(ledger: Ledger, run_id: str, stage: str) -> dict[str, bool]:
    """Return the tasks that an earlier process of this run finished: task id -> whether the task was accepted."""
    rows = ledger.rows(
        "SELECT task_id, bool_or(accepted) AS accepted FROM picks WHERE run_id = ? AND stage = ? GROUP BY task_id",
        [run_id, stage],
    )
    return {row["task_id"]: row["accepted"] for row in rows}


def _publish(
    node: StageNode,
    stage: SolveStage,
    tasks: Sequence[Task],
    dataset: Dataset,
    checkpoint_key: str,
    context: StageContext,
    ledger: Ledger,
    calibration: dict[str, Any] | None,
    before: Sequence[dict[str, Any]],
) -> None:
    """Write the artifact from the ledger, with the records of earlier processes of this run.

    Args:
        before: lines of attempts.jsonl of the tasks that an earlier stage accepted.
    """
    picks = [as_dict(pick) for pick in ledger.read(PickRecord, run_id=context.run_id, stage=node.name)]
    attempts = ledger.whole_attempts(context.run_id, stage=node.name, fork=0)
    outputs.write_picks(context.out / outputs.PICKS, tasks, picks)
    result_files.write_submission(context.out / result_files.SUBMISSION, tasks, picks)
    outputs.write_attempts(context.out / outputs.ATTEMPTS, attempts, before)
    outputs.write_meta(
        context.out / outputs.META,
        {
            "checkpoint_key": checkpoint_key,
            "data_version": dataset.version,
            "data_digest": dataset.digest,
            "split": stage.split,
            "num_tasks": len(tasks),
            "num_test_inputs": sum(len(task.tests) for task in tasks),
            "num_attempts": len(attempts),
            "solver": stage.solver.model_dump(mode="json"),
            **({"calibration": calibration} if calibration else {}),
        },
    )
    context.notes["num_tasks"] = len(tasks)
    context.notes["num_attempts"] = len(attempts)
    context.notes["hardware"] = hardware(context.device)
