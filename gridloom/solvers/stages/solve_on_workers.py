"""A solve stage on several workers: the driver hands out tasks, workers run their loops and journal the attempts.

A task that was lost with its worker, or with an earlier driver, goes on from its last LangGraph checkpoint: the driver
reads the thread from the ledger and sends it along. Workers never open the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from gridloom.compiler.graph import StageNode
from gridloom.errors import StageError, StageInterrupted
from gridloom.runtime.data.arc.dataset import held_out_tasks, load_dataset
from gridloom.runtime.data.tasks import Task
from gridloom.runtime.stage import Job, StageContext
from gridloom.runtime.trackers.wandb_run import Log
from gridloom.solvers.loop.graph import thread_id
from gridloom.solvers.loop.policies import Experience
from gridloom.solvers.stages.task_loop import (
    LoadLlmServices,
    LoadServices,
    TaskLoop,
    is_accepted,
    load_models,
    solver_key,
)
from gridloom.solvers.stages.threshold import accepting_from, read_calibration
from gridloom.specs.stages import SolveStage
from gridloom.stores.artifacts import Artifact
from gridloom.stores.graph_records import GRAPH_TABLES, GraphRecord
from gridloom.stores.journal import as_columns
from gridloom.stores.ledger import Ledger
from gridloom.wording import counted, listed

PLACE = "gridloom.solvers.stages.solve:Solve"


@dataclass(slots=True)
class GivenThreads:
    """Threads that came with tasks, in place of a ledger."""

    known: set[str] = field(default_factory=set)
    """Ids; the saver keeps this very set, so that threads which come later are found."""
    _records: dict[str, list[GraphRecord]] = field(default_factory=dict)

    def give(self, thread: str, records: Sequence[GraphRecord]) -> None:
        """Take the records of a thread."""
        self.known.add(thread)
        self._records[thread] = [*records]

    def graph_threads(self) -> set[str]:
        """Return the ids of the threads."""
        return self.known

    def read_graphs(self, thread_ids: Sequence[str]) -> list[GraphRecord]:
        """Return and forget the records of these threads: the saver holds them in memory from then on."""
        return [record for thread in thread_ids for record in self._records.pop(thread, ())]


class SolveWorker:
    """Worker's half of kind `solve`: the models of the stage, and the loop of one task at a time or several."""

    def __init__(
        self,
        node: StageNode,
        inputs: Mapping[str, Artifact],
        context: StageContext,
        shared: Mapping[str, Any],
        load: LoadServices,
        load_llm: LoadLlmServices,
    ) -> None:
        stage = node.section(SolveStage)
        if "calibration" in inputs:
            threshold = read_calibration(inputs["calibration"].path)["threshold"]
            stage = stage.model_copy(update={"solver": accepting_from(stage.solver, threshold)})
        tasks = held_out_tasks(load_dataset(inputs["data"].path), stage.data, stage.split, stage.limit)
        experience = {arm: (float(earned), int(times)) for arm, (earned, times) in shared["experience"].items()}
        services = load_models(node, stage, inputs, tasks, context, load, load_llm)
        self.slots = stage.solver.in_flight
        self._tasks = {task.task_id: task for task in tasks}
        self._threads = GivenThreads()
        self._loop = TaskLoop(
            node, stage, services, solver_key(node, stage, inputs), context, self._threads, experience
        )
        self._thread = (context.run_id, node.name)

    async def do(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Solve one task; return whether it was accepted and its number of attempts. Raises StageInterrupted."""
        task = self._tasks[value["task"]]
        if value["thread"]:
            self._threads.give(thread_id(*self._thread, task.task_id), _records(value["thread"]))
        with self._loop.services.scheduler.member():
            state = await self._loop.one(task)
        if state is None:
            raise StageInterrupted(f"{task.task_id} was interrupted; its last node is saved", "run again")
        return {"accepted": is_accepted(state, task), "attempts": len(state["history"])}


def solve_on_workers(
    node: StageNode,
    inputs: Mapping[str, Artifact],
    tasks: Sequence[Task],
    num_tasks: int,
    accepted: int,
    experience: Experience,
    context: StageContext,
    ledger: Ledger,
    log: Log | None = None,
) -> None:
    """Have the workers solve the open tasks of a stage.

    Args:
        num_tasks: number of all tasks; those beside `tasks` are done, `accepted` of them accepted.
        log: receiver of the counts after each task.

    Raises:
        StageInterrupted: the stop signal was set, and every worker has saved its node.
        StageError: a task took three workers with it; all others are done.
        GridloomError: a task failed as it would in one process.
    """
    crew = context.crew
    assert crew is not None, "the stage has workers"
    job = Job.of(
        PLACE,
        node,
        inputs,
        context,
        {"experience": experience},
    )
    begun = ledger.graph_threads()

    def value(item: str, lost: int) -> dict[str, Any]:
        thread = thread_id(context.run_id, node.name, item)
        given = ledger.read_graphs([thread]) if lost or thread in begun else []
        return {"task": item, "thread": [{"t": one.TABLE, "r": as_columns(one)} for one in given]}

    done, attempts = num_tasks - len(tasks), 0
    with context.progress.task(node.name, num_tasks, unit="tasks", done=done) as bar:

        def take(item: str, result: Mapping[str, Any]) -> None:
            nonlocal done, accepted, attempts
            done += 1
            accepted += result["accepted"]
            attempts += result["attempts"]
            counts = {"accepted": accepted, "open": done - accepted, "attempts": attempts}
            bar.advance(1, **counts, workers=crew.num_workers)
            if log is not None:
                log(counts, done)

        aside = crew.run(job, [task.task_id for task in tasks], value, take, context.stop)
    if aside:
        raise StageError(
            f"{len(aside)} of {counted(num_tasks, 'task')} took three workers with it and "
            f"{'is' if len(aside) == 1 else 'are'} set aside: {listed(aside, 8)}; {done} done",
            "look at what the workers printed (the folder workers of the workspace), then run again: only what is set "
            "aside runs; or leave it out with data.select",
        )
    if done < num_tasks:
        raise StageInterrupted(
            f"{node.name} stopped ({context.stop.reason}) with {done} of {num_tasks} tasks done; every node is saved",
            "run the same command again: the run resumes at the node where it stopped",
        )


_BY_TABLE = {kind.TABLE: kind for kind in GRAPH_TABLES}


def _records(units: Sequence[Mapping[str, Any]]) -> list[GraphRecord]:
    """Return the graph records of a message; columns that are left out are None."""
    found: list[Any] = []
    for unit in units:
        kind = _BY_TABLE[unit["t"]]
        found.append(kind(**{name: unit["r"].get(name) for name in (one.name for one in fields(kind))}))
    return found
