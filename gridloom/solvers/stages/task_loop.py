"""Loop of a solve stage over its tasks: models and stores, one LangGraph thread a task, resumable at every node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from langgraph.runtime import RunControl

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageInterrupted
from gridloom.progress import Progress, ProgressTask
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.stage import StageContext
from gridloom.runtime.trackers.wandb_run import Log
from gridloom.solvers.loop.graph import TaskRun, build_graph, run_graph, thread_id
from gridloom.solvers.loop.nodes import Nodes
from gridloom.solvers.loop.policies import Experience, Policy, make_policy
from gridloom.solvers.loop.recording import AttemptScope
from gridloom.solvers.loop.select import accepts_task
from gridloom.solvers.parts.ablation import with_latents
from gridloom.solvers.parts.endpoint_reasoner import EndpointReasoner
from gridloom.solvers.parts.loading import load_llm_services, load_search, load_services
from gridloom.solvers.parts.search_proposer import KEY as SEARCH_KEY
from gridloom.solvers.parts.services import Services
from gridloom.solvers.types import LoopState
from gridloom.specs.solver import Solver
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.threads.checkpointer import DuckDBSaver, StoredThreads

LoadServices = Callable[[Path, Solver, str, Path, Progress | None], Services]
"""Function (checkpoint folder, settings, device, folder that relative paths start from, progress) -> models."""
LoadLlmServices = Callable[[Mapping[str, Any], Solver, str, Path, Progress | None], Services]
"""Function like `LoadServices` for a language model that solves alone; its first argument is the model's spec."""


def llm_key(node: StageNode) -> str:
    """Return the key of the language model of a stage that solves with a language model alone.

    The key is the digest of the weights; for an endpoint, whose weights are unknown, `endpoint:` and the model's name.
    """
    model = str(node.spec["with"])
    facts = node.facts.get("llama", {}).get(model)
    return str(facts["digest"]) if facts else f"endpoint:{node.models[model]['model']}"


def solver_key(node: StageNode, stage: SolveStage, inputs: Mapping[str, Artifact]) -> str:
    """Return the key of what solves: of the checkpoint, of the language model, or of the search."""
    checkpoint = inputs.get("with")
    return checkpoint.key if checkpoint else llm_key(node) if stage.with_ else SEARCH_KEY


def load_models(
    node: StageNode,
    stage: SolveStage,
    inputs: Mapping[str, Artifact],
    tasks: Sequence[Task],
    context: StageContext,
    load: LoadServices = load_services,
    load_llm: LoadLlmServices = load_llm_services,
) -> Services:
    """Load what the stage solves with; `tasks` are all tasks of the stage, whose latents an ablation exchanges."""
    rest = (stage.solver, context.device, context.base, context.progress)
    checkpoint = inputs.get("with")
    if checkpoint:
        services = load(checkpoint.path, *rest)
    elif stage.with_:
        services = load_llm(node.models[stage.with_], *rest)
    else:
        services = load_search(stage.solver, context.progress)
    if isinstance(services.reasoner, EndpointReasoner):
        services.reasoner.endpoint.stop = context.stop
    return with_latents(services, stage.solver.latents, tasks, node.seed)


class TaskLoop:
    """Models and stores of a solve stage, and the loop over its tasks."""

    def __init__(
        self,
        node: StageNode,
        stage: SolveStage,
        services: Services,
        checkpoint_key: str,
        context: StageContext,
        threads: StoredThreads,
        experience: Experience,
    ) -> None:
        self.node = node
        self.settings = stage.solver
        self.accept = stage.solver.verifier.accept if stage.calibration else None
        self.services = services
        self.checkpoint_key = checkpoint_key
        self.experience = experience
        self.context = context
        self.policy: Policy = make_policy(stage.solver.policy)
        self.saver = DuckDBSaver(context.ledger, ledger=threads, one_task_a_step=True)
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
                state = await self.one(task)
                if state is None:
                    return
                self.num_done += 1
                self.num_attempts += len(state["history"])
                self.num_accepted += is_accepted(state, task)
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

    async def one(self, task: Task) -> LoopState | None:
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
            self.saver.retain(thread, "last" if is_accepted(state, task) else "all")
        return state


def is_accepted(state: LoopState, task: Task) -> bool:
    """Return whether a task that ended is accepted."""
    return accepts_task([(entry.get("only"), entry["accepted"]) for entry in state["history"]], len(task.tests))
