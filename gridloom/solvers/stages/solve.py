"""The solve stage: the loop over the tasks of a split, resumable at every node, with picks and attempts as artifact."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageInterrupted
from gridloom.progress import Progress, ProgressTask
from gridloom.runtime.data.arc.dataset import Dataset, held_out_tasks, load_dataset
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.interop import result_files
from gridloom.runtime.machine.device import hardware
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import Log, tracked_counts
from gridloom.solvers.loop.graph import TaskRun, build_graph, run_graph, thread_id
from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.loop.policies import Experience, Policy, make_policy
from gridloom.solvers.loop.recording import AttemptScope, task_record
from gridloom.solvers.loop.select import accepts_task
from gridloom.solvers.parts.ablation import with_latents
from gridloom.solvers.parts.endpoint_reasoner import EndpointReasoner
from gridloom.solvers.parts.loading import load_llm_services, load_search, load_services
from gridloom.solvers.parts.search_proposer import KEY as SEARCH_KEY
from gridloom.solvers.parts.services import Services
from gridloom.solvers.stages import attempts_artifact as outputs
from gridloom.solvers.stages.threshold import accepting_from, read_calibration
from gridloom.solvers.types import LoopState
from gridloom.specs.solver import Solver
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.files.write_aside import replacing
from gridloom.stores.ledger import Ledger
from gridloom.stores.records import PickRecord, as_dict
from gridloom.stores.threads.checkpointer import DuckDBSaver

LoadServices = Callable[[Path, Solver, str, Path, Progress | None], Services]
"""Function (checkpoint folder, settings, device, folder that relative paths start from, progress) -> models."""
LoadLlmServices = Callable[[Mapping[str, Any], Solver, str, Path, Progress | None], Services]
"""Function like `LoadServices` for a language model that solves alone; its first argument is the model's spec."""


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
        checkpoint = inputs.get("with")
        model_key = checkpoint.key if checkpoint else llm_key(node) if stage.with_ else SEARCH_KEY
        ledger = Ledger(context.ledger.workspace)
        context.ledger.append(*(task_record(context.run_id, node.name, task) for task in tasks))
        finished = _finished(ledger, context.run_id, node.name)
        open_tasks = [task for task in tasks if task.task_id not in finished]
        calibration = read_calibration(inputs["calibration"].path) if "calibration" in inputs else None
        if calibration:
            stage = stage.model_copy(update={"solver": accepting_from(stage.solver, calibration["threshold"])})
        began = time.perf_counter()
        if open_tasks:
            policy = make_policy(stage.solver.policy)
            rest = (stage.solver, context.device, context.base, context.progress)
            if checkpoint:
                services = self._load(checkpoint.path, *rest)
            elif stage.with_:
                services = self._load_llm(node.models[stage.with_], *rest)
            else:
                services = load_search(stage.solver, context.progress)
            if isinstance(services.reasoner, EndpointReasoner):
                services.reasoner.endpoint.stop = context.stop
            services = with_latents(services, stage.solver.latents, tasks, node.seed)
            experience = _experience(context, ledger) if policy.uses_experience else {}
            loop = _Loop(node, stage, services, model_key, context, ledger, policy, experience)
            with tracked_counts(stage.wandb, node, context, inputs) as loop.log:
                asyncio.run(loop.solve(open_tasks, num_tasks=len(tasks), accepted=sum(finished.values())))
        context.notes["seconds"] = time.perf_counter() - began
        context.notes["resumed_tasks"] = len(finished)
        _publish(node, stage, tasks, dataset, model_key, context, ledger, calibration)


def llm_key(node: StageNode) -> str:
    """Return the key of the language model of a stage that solves with a language model alone.

    The key is the digest of the weights; for an endpoint, whose weights are unknown, `endpoint:` and the model's name.
    """
    model = str(node.spec["with"])
    facts = node.facts.get("llama", {}).get(model)
    return str(facts["digest"]) if facts else f"endpoint:{node.models[model]['model']}"


class _Loop:
    """Models and stores of a solve stage, and the loop over its tasks."""

    def __init__(
        self,
        node: StageNode,
        stage: SolveStage,
        services: Services,
        checkpoint_key: str,
        context: StageContext,
        ledger: Ledger,
        policy: Policy,
        experience: Experience,
    ) -> None:
        self.node = node
        self.settings = stage.solver
        self.accept = stage.solver.verifier.accept if stage.calibration else None
        self.services = services
        self.checkpoint_key = checkpoint_key
        self.experience = experience
        self.context = context
        self.policy = policy
        self.saver = DuckDBSaver(context.ledger, ledger=ledger, one_task_a_step=True)
        self.graph = build_graph(self.saver)
        self.num_done = self.num_accepted = self.num_attempts = 0
        self.log: Log | None = None

    async def solve(self, tasks: Sequence[Task], num_tasks: int, accepted: int) -> None:
        """Run the tasks' graphs, `in_flight` of them concurrently.

        Raises:
            StageInterrupted: the stop signal was set, and every running graph has saved its node.
        """
        context = self.context
        self.num_done, self.num_accepted = num_tasks - len(tasks), accepted
        queue = iter(tasks)
        with context.progress.task(self.node.name, num_tasks, unit="tasks", done=self.num_done) as bar:
            number = min(self.settings.in_flight, len(tasks))
            workers = [asyncio.create_task(self._work(queue, bar)) for _ in range(number)]
            try:
                await asyncio.gather(*workers)
            except BaseException:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                raise
        if self.num_done < num_tasks:
            raise StageInterrupted(
                f"{self.node.name} stopped ({context.stop.reason}) with {self.num_done} of {num_tasks} tasks done; "
                "every node is saved",
                "run the same command again: the run resumes at the node where it stopped",
            )

    async def _work(self, queue: Iterator[Task], bar: ProgressTask) -> None:
        """Run tasks one after the other; batches of the scheduler wait for the calls of this worker until it ends."""
        with self.services.scheduler.member():
            for task in queue:
                if self.context.stop:
                    return
                state = await self._one(task)
                if state is None:
                    return
                self.num_done += 1
                self.num_attempts += len(state["history"])
                self.num_accepted += _is_accepted(state, task)
                bar.advance(1, **self._figures())
                if self.log is not None:
                    self.log(self._figures(), self.num_done)

    def _figures(self) -> dict[str, Any]:
        """Return the counts that the progress bar shows."""
        return {
            "accepted": self.num_accepted,
            "open": self.num_done - self.num_accepted,
            "attempts": self.num_attempts,
        }

    async def _one(self, task: Task) -> LoopState | None:
        """Run a task's graph to its end and return the state; None when the stop signal interrupted it."""
        context = self.context
        control = RunControl()

        def drain() -> None:
            if context.stop:
                control.request_drain(context.stop.reason)

        nodes = Nodes(
            task,
            settings=self.settings,
            seed=self.node.seed,
            services=self.services,
            policy=self.policy,
            experience=self.experience,
            scope=AttemptScope(
                context.run_id, self.node.name, task.task_id, self.node.key, self.checkpoint_key, accept=self.accept
            ),
            append=context.ledger.append,
            show=context.progress.show,
        )
        thread = thread_id(context.run_id, self.node.name, task.task_id)
        state = await run_graph(
            self.graph, TaskRun(nodes, drain), task.task_id, thread, self.settings.max_attempts, control
        )
        if state is not None:
            # a failed task keeps all its checkpoints for inspection, an accepted task its last
            self.saver.retain(thread, "last" if _is_accepted(state, task) else "all")
        return state


def _is_accepted(state: LoopState, task: Task) -> bool:
    """Return whether a task that ended is accepted."""
    return accepts_task([(entry.get("only"), entry["accepted"]) for entry in state["history"]], len(task.tests))


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
) -> None:
    """Write the artifact from the ledger, with the records of earlier processes of this run."""
    picks = [as_dict(pick) for pick in ledger.read(PickRecord, run_id=context.run_id, stage=node.name)]
    attempts = ledger.whole_attempts(context.run_id, stage=node.name, fork=0)
    outputs.write_picks(context.out / outputs.PICKS, tasks, picks)
    result_files.write_submission(context.out / result_files.SUBMISSION, tasks, picks)
    outputs.write_attempts(context.out / outputs.ATTEMPTS, attempts)
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
